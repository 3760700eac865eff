"""Check the signature of a handler when its route is declared."""

import inspect
from collections.abc import Callable
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from fastapi.datastructures import DefaultPlaceholder
from fastapi.params import Depends
from sqlalchemy.ext.asyncio import AsyncSession

from timberframe.crud.policy import Principal
from timberframe.data.base import Base
from timberframe.data.session import Database
from timberframe.errors import WrongDeclaration

# What comes from a dependency, which the annotation names. FastAPI would read a principal from the
# body: then anybody could be a superuser.
_DEPENDENCIES: tuple[tuple[type, str], ...] = (
    (AsyncSession, "DbSession"),
    (Database, "DbRead"),
    (Principal, "CurrentUser"),
    (Base, "Annotated[…, Depends(writable(…))]"),
)


def check_handler(path: str, handler: Callable[..., Any], response_model: Any) -> None:
    """Raise `WrongDeclaration` for what FastAPI would misread, or refuse without a remedy."""
    name = handler.__name__
    if not inspect.iscoroutinefunction(inspect.unwrap(handler)):
        raise WrongDeclaration(f"{path}: {name} must be declared with `async def`")
    try:
        hints = get_type_hints(handler, include_extras=True)
    except NameError:  # FastAPI says which
        return
    for parameter in inspect.signature(handler).parameters.values():
        if isinstance(parameter.default, Depends):
            continue
        for annotation in _alternatives(hints.get(parameter.name)):
            for kind, dependency in _DEPENDENCIES:
                if issubclass(annotation, kind):
                    raise WrongDeclaration(
                        f"{path}: {name} takes {parameter.name}: {annotation.__name__}, which no"
                        f" request contains: annotate it as {dependency}"
                    )
    if isinstance(response_model, DefaultPlaceholder):
        for annotation in _alternatives(hints.get("return")):
            if issubclass(annotation, Base):
                model = annotation.__name__
                raise WrongDeclaration(
                    f"{path}: {name} returns a model, so its route needs"
                    f" response_model=schemas.{model}"
                )


def _alternatives(annotation: Any) -> list[type]:
    """The classes in `X` and in `X | None`."""
    is_union = get_origin(annotation) in (Union, UnionType)
    alternatives = get_args(annotation) if is_union else (annotation,)
    return [each for each in alternatives if isinstance(each, type)]
