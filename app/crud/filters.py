"""Filters of a list: declared for each field, typed in OpenAPI, always bound as parameters."""

import operator
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Final

from pydantic import AwareDatetime, BeforeValidator, Field
from sqlalchemy import ColumnElement, Integer, and_
from sqlalchemy.orm import InstrumentedAttribute

from app.db.base import MAX_ID
from app.schemas.base import Choice, Line, Money

FieldOperators = Mapping[InstrumentedAttribute[Any], Sequence[str]]

# Ready sets, for the declarations. `eq` is spelt `field=value`, any other `field__operator=value`.
EQUALITY: Final = ("eq", "in")
RANGE: Final = ("eq", "gte", "gt", "lte", "lt")
MAX_CHOICES = 100

_MAX_INT32 = 2**31 - 1
_MOMENT = r"(?!0001|9999)[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}"
_LAST_CHARACTER = chr(sys.maxunicode)


def starts_with(column: InstrumentedAttribute[Any], prefix: str) -> ColumnElement[bool]:
    """Without LIKE: no wildcards, the case of letters counts on both engines, an index serves."""
    return and_(column >= prefix, column < prefix + _LAST_CHARACTER)


CONDITIONS: dict[str, Callable[[InstrumentedAttribute[Any], Any], ColumnElement[bool]]] = {
    "eq": operator.eq,
    "gte": operator.ge,
    "gt": operator.gt,
    "lte": operator.le,
    "lt": operator.lt,
    "in": lambda column, values: column.in_(values),
    "isnull": lambda column, yes: column.is_(None) if yes else column.is_not(None),
    "prefix": starts_with,
}


def filter_conditions(
    filters: FieldOperators, sent: Mapping[str, Any]
) -> list[ColumnElement[bool]]:
    """`sent` holds valid values by parameter, and None or nothing for what was not sent."""
    return [
        CONDITIONS[name](column, value)
        for column, operators in filters.items()
        for name in operators
        if (value := sent.get(parameter_name(column, name))) is not None
    ]


def filter_parameters(filters: FieldOperators) -> dict[str, Any]:
    """Pydantic's definition of each query parameter, by its name."""
    return {
        parameter_name(column, name): (_value_type(column, name), None)
        for column, operators in filters.items()
        for name in operators
    }


def parameter_name(column: InstrumentedAttribute[Any], name: str) -> str:
    return column.key if name == "eq" else f"{column.key}__{name}"


def _value_type(column: InstrumentedAttribute[Any], name: str) -> Any:
    if name == "isnull":
        return bool
    python_type = column.type.python_type
    one = _TYPES[python_type]
    if python_type is int:
        limit = _MAX_INT32 if type(column.type) is Integer else MAX_ID
        one = Annotated[int, Field(ge=-limit, le=limit)]
    if name != "in":
        return one
    if python_type is str:
        one = Choice
    some = list[one]  # type: ignore[valid-type]  # made at run time
    return Annotated[some, BeforeValidator(_split), Field(min_length=1, max_length=MAX_CHOICES)]


def _split(sent: list[str]) -> list[str]:
    """`a,b`, which is OpenAPI's style `form` without `explode`."""
    return sent[0].split(",")


def _check_moment(value: object) -> object:
    """RFC 3339, and nothing that another time zone would put out of a database's reach."""
    if not isinstance(value, str) or not re.match(_MOMENT, value):
        raise ValueError("must be a time such as 2026-11-24T12:00:00Z")
    return value


_TYPES: dict[type, Any] = {
    bool: bool,
    int: int,
    str: Line,
    Decimal: Money,
    datetime: Annotated[AwareDatetime, BeforeValidator(_check_moment)],
}
