"""Filters of a list: declared for each field, typed in OpenAPI, always bound as parameters."""

import operator
import sys
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Final
from uuid import UUID

from pydantic import BeforeValidator, Field
from sqlalchemy import ColumnElement, and_, bindparam
from sqlalchemy.orm import InstrumentedAttribute

from app.db.base import MAX_ID, FixedPoint
from app.schemas.base import Choice, Day, Line, Moment, Money, Number, Uuid

FieldOperators = Mapping[InstrumentedAttribute[Any], Sequence[str]]

# Ready sets, for the declarations. `eq` is spelt `field=value`, any other `field__operator=value`.
EQUALITY: Final = ("eq", "in")
RANGE: Final = ("eq", "gte", "gt", "lte", "lt")
MAX_CHOICES = 100

_LAST_CHARACTER = chr(sys.maxunicode)

# A prefix is a range: no wildcards, the case of letters counts on both engines, an index serves.
_CONDITIONS: dict[str, Callable[..., ColumnElement[bool]]] = {
    "eq": operator.eq,
    "gte": operator.ge,
    "gt": operator.gt,
    "lte": operator.le,
    "lt": operator.lt,
    "in": lambda column, *values: column.in_(values),
    "prefix": lambda column, first, beyond: and_(column >= first, column < beyond),
}


@dataclass(frozen=True)
class Filter:
    """`parameter` is its name in a query string."""

    column: InstrumentedAttribute[Any]
    operator: str
    parameter: str

    def values(self, sent: Any) -> dict[str, Any]:
        """What was sent, by the names of the statement's parameters."""
        match self.operator:
            case "isnull":
                return {}
            case "in":
                return {f"{self.parameter}_{place}": value for place, value in enumerate(sent)}
            case "prefix":
                return {self.parameter: sent, f"{self.parameter}_end": sent + _LAST_CHARACTER}
        return {self.parameter: sent}

    def shape(self, sent: Any) -> Hashable:
        """All that `condition` depends on."""
        return self.parameter, sent if self.operator == "isnull" else len(self.values(sent))

    def condition(self, sent: Any) -> ColumnElement[bool]:
        if self.operator == "isnull":
            return self.column.is_(None) if sent else self.column.is_not(None)
        parameters = (bindparam(name, type_=self.column.type) for name in self.values(sent))
        return _CONDITIONS[self.operator](self.column, *parameters)

    @property
    def value_type(self) -> Any:
        """What Pydantic takes for a value."""
        if self.operator == "isnull":
            return bool
        python_type = self.column.type.python_type
        one = _TYPES.get(type(self.column.type), _TYPES[python_type])
        if python_type is int:
            one = Annotated[int, Field(ge=-MAX_ID, le=MAX_ID)]
        if self.operator != "in":
            return one
        if python_type is str:
            one = Choice
        some = list[one]  # type: ignore[valid-type]  # made at run time
        return Annotated[some, BeforeValidator(_split), Field(min_length=1, max_length=MAX_CHOICES)]


def declared(filters: FieldOperators) -> Iterator[Filter]:
    for column, operators in filters.items():
        for name in operators:
            yield Filter(column, name, column.key if name == "eq" else f"{column.key}__{name}")


def _split(sent: str) -> list[str]:
    """`a,b`, which is OpenAPI's style `form` without `explode`."""
    return sent.split(",")


_TYPES: dict[type, Any] = {
    bool: bool,
    int: int,
    str: Line,
    Decimal: Money,
    FixedPoint: Number,
    date: Day,
    datetime: Moment,
    UUID: Uuid,
}
