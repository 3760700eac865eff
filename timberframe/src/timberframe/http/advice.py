"""What to do about errors whose own message does not say it."""

from collections.abc import Iterator

from sqlalchemy.exc import ArgumentError, InvalidRequestError, MissingGreenlet
from sqlalchemy.orm.exc import DetachedInstanceError

from timberframe.data.failures import lacks_schema

_AWAIT_ATTRIBUTE = (
    "an attribute is not loaded, and only `await` can load it: load it in the query, a relationship"
    " with selectinload, or `await db.refresh(row)`; after a rollback nothing is loaded"
)
_BY_TEXT: tuple[tuple[type[Exception], str, str], ...] = (
    (AttributeError, "'coroutine' object", "`await` is missing where the value comes from"),
    (TypeError, "'coroutine' object", "`await` is missing where the value comes from"),
    (
        InvalidRequestError,
        "is already defined for this MetaData",
        "two models have this __tablename__: rename one of them",
    ),
    (
        InvalidRequestError,
        "failed to locate a name",
        "correct the name, or import the module of that model in models/__init__.py",
    ),
    (
        ArgumentError,
        "could not assemble any primary key",
        "derive the model from Record, which has an id",
    ),
)


def advice_for(error: BaseException) -> str | None:
    """What to do about the error, or about what caused it; None if there is nothing to add."""
    for each in _chain(error):
        if isinstance(each, (MissingGreenlet, DetachedInstanceError)):
            return _AWAIT_ATTRIBUTE
        if lacks_schema(each):
            return "the database lacks it: the command `check` says which migration is missing"
        for kind, text, advice in _BY_TEXT:
            if isinstance(each, kind) and text in str(each):
                return advice
    return None


def advise(error: Exception) -> None:
    """Add the advice to the traceback."""
    if advice := advice_for(error):
        error.add_note(f"→ {advice}")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error:
        yield error
        error = error.__cause__ or error.__context__
