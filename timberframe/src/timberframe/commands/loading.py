"""Import the application, or say in one line why it cannot be imported, and where."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import structlog

from timberframe.errors import AppError, CommandError

log = structlog.get_logger()


class CannotLoad(CommandError):
    """The application's code fails while it is imported."""

    code = "cannot_load"


def command_name() -> str:
    return Path(sys.argv[0]).name


def load(target: str) -> Any:
    """The object that an import string such as `app.main:app` names."""
    module, _, name = target.partition(":")
    return getattr(import_module(module), name)


def load_app(target: str) -> Any:
    """As `load`, with errors as in `broken_in_one_line`."""
    with broken_in_one_line():
        return load(target)


@contextmanager
def broken_in_one_line() -> Iterator[None]:
    """Raise `CannotLoad`, which names the line of code at fault, if the application is broken."""
    try:
        yield
    except AppError:
        raise
    except Exception as broken:
        log.debug("not_loaded", exc_info=True)
        raise CannotLoad(
            f"the application cannot be loaded: {describe(broken)} (more with LOG_LEVEL=debug)"
        ) from broken


def describe(broken: BaseException) -> str:
    """`app/models/order.py:7: NameError: name 'Moneyy' is not defined`."""
    if isinstance(broken, SyntaxError):
        return f"{_short(broken.filename or '?')}:{broken.lineno}: SyntaxError: {broken.msg}"
    what = f"{type(broken).__name__}: {broken}"
    # The deepest line outside of libraries: what the owner wrote led to the error.
    for frame in reversed(traceback.extract_tb(broken.__traceback__)):
        file = Path(frame.filename)
        if file.is_file() and not is_library(file):
            return f"{_short(frame.filename)}:{frame.lineno}: {what}"
    return what


def is_library(file: Path) -> bool:
    """Whether it was installed, or belongs to Python or to the frame."""
    folders = (Path(__file__).parents[1], Path(traceback.__file__).parent)
    return "site-packages" in file.parts or any(map(file.is_relative_to, folders))


def _short(file: str) -> str:
    path = Path(file)
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
