"""Logs: one line of JSON for each event in production, readable in development."""

import logging
import sys
import traceback
from pathlib import Path
from typing import Any, ClassVar, TextIO

import structlog
from pydantic_core import to_json
from structlog.typing import EventDict, Processor, WrappedLogger

from timberframe.project import is_library
from timberframe.settings import Settings

_processors: list[Processor] = []


class LineWriter:
    """Writes finished lines: a LogRecord for each would cost more than the line itself."""

    stream: ClassVar[TextIO] = sys.stdout

    def write(self, line: str) -> None:
        self.stream.write(f"{line}\n")
        self.stream.flush()

    debug = info = warning = error = critical = write


def configure_logging(settings: Settings) -> None:
    """Send our own lines and those of libraries to standard output, in the same form."""
    LineWriter.stream = sys.stdout
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_rendered(settings),
            ],
        )
    )
    # Below warnings, libraries may log addresses and the parameters of statements.
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    # In place: loggers keep the list that they were created with.
    _processors[:] = [*shared, *_rendered(settings)]
    structlog.configure(
        processors=_processors,
        logger_factory=LineWriter,
        wrapper_class=structlog.make_filtering_bound_logger(settings.LOG_LEVEL),
        cache_logger_on_first_use=True,
    )


def _rendered(settings: Settings) -> list[Processor]:
    if settings.is_production:
        return [describe_exception, structlog.processors.JSONRenderer(_to_json)]
    # The default traceback prints local variables, passwords among them, and takes seconds.
    is_whole = settings.LOG_LEVEL == "DEBUG"
    formatter = structlog.dev.plain_traceback if is_whole else write_own_frames
    return [
        structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty(), exception_formatter=formatter)
    ]


def write_own_frames(stream: TextIO, exc_info: Any) -> None:
    """Write a traceback with the application's own frames, and the one that raised.

    A request passes through sixty frames of libraries before it reaches a handler.
    """
    written = traceback.TracebackException(*exc_info)
    each: traceback.TracebackException | None = written
    while each:
        *others, last = each.stack or [None]
        own = [f for f in others if f and not is_library(Path(f.filename))]
        each.stack[:] = [*own, *([last] if last else [])]
        each = each.__cause__ or each.__context__
    stream.write("".join(written.format()))


def _to_json(event: EventDict, **options: Any) -> str:
    return to_json(event, fallback=repr).decode()


def describe_exception(logger: WrappedLogger, name: str, event: EventDict) -> EventDict:
    """Log an exception's type and location, not its text, which may repeat what a client sent."""
    info: Any = event.pop("exc_info", None)
    error = info[1] if isinstance(info, tuple) else info
    if error is True:
        error = sys.exc_info()[1]
    if isinstance(error, BaseException):
        event["exception"] = type(error).__qualname__
        event["frames"] = [
            f"{frame.filename}:{frame.lineno} {frame.name}"
            for frame in traceback.extract_tb(error.__traceback__)
        ]
    return event
