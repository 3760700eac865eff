"""Import the application, or say in one line why it cannot be imported, and where."""

import gc
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import structlog

from timberframe.errors import AppError, CommandError, WrongDeclaration
from timberframe.project import is_library

log = structlog.get_logger()


class CannotLoad(CommandError):
    """The application's code fails while it is imported."""

    code = "cannot_load"


def command_name() -> str:
    return Path(sys.argv[0]).name


def load(target: str) -> Any:
    """The object that an import string such as `app.main:app` names; errors as in `located`."""
    module, _, name = target.partition(":")
    with located(), importing():
        return getattr(import_module(module), name)


@contextmanager
def importing() -> Iterator[None]:
    """While much is imported: to look for garbage would cost a tenth of the time, and find none."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


@contextmanager
def located() -> Iterator[None]:
    """While code of the application is imported: say in one line what is wrong with it, and where.

    Raise `WrongDeclaration` for what a resource declares, and `CannotLoad` for anything else.
    """
    try:
        yield
    except WrongDeclaration as wrong:
        raise WrongDeclaration(f"{_place_of(wrong)}{wrong.detail}") from wrong
    except AppError:
        raise
    except Exception as broken:
        log.debug("not_loaded", exc_info=True)
        from timberframe.http.advice import advice_for  # takes long to import

        advice = advice_for(broken)
        what = f"{_place_of(broken)}{_describe(broken)}{f' → {advice}' if advice else ''}"
        raise CannotLoad(
            f"the application cannot be loaded: {what} (more with LOG_LEVEL=debug)"
        ) from broken


def _describe(broken: Exception) -> str:
    said = broken.msg if isinstance(broken, SyntaxError) else str(broken)
    return f"{type(broken).__name__}: {said}"


def _place_of(broken: Exception) -> str:
    """`app/models/order.py:7: `, the last line before libraries: what the owner wrote led to it."""
    if isinstance(broken, SyntaxError) and broken.filename:
        return f"{_shown(Path(broken.filename))}:{broken.lineno}: "
    for frame in reversed(traceback.extract_tb(broken.__traceback__)):
        file = Path(frame.filename)
        if file.is_file() and not is_library(file):
            return f"{_shown(file)}:{frame.lineno}: "
    return ""


def _shown(file: Path) -> Path:
    return file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file
