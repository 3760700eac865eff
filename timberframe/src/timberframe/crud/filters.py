"""Filters of a list: declared for each field, typed in OpenAPI, always bound as parameters."""

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Final
from uuid import UUID

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticKnownError
from sqlalchemy import Column, ColumnElement, and_, bindparam, not_, select
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.types import TypeEngine

from timberframe.data.base import MAX_ID
from timberframe.data.column_types import LAST_CHARACTER, FixedPoint
from timberframe.data.query import Fetch
from timberframe.schemas.fields import Choice, Day, Line, Moment, Money, Number, Uuid
from timberframe.schemas.page import REPEATABLE

FieldOperators = Mapping[InstrumentedAttribute[Any], Sequence[str]]

# Ready-made sets for declarations. `eq` is written `field=value`, others `field__operator=value`.
EQUALITY: Final = ("eq", "in")
RANGE: Final = ("eq", "gte", "gt", "lte", "lt")
MAX_CHOICES = 100
MAX_REPEATED = 10

# A prefix is a range: no wildcards, case-sensitive on both engines, and an index can serve it.
_CONDITIONS: dict[str, Callable[..., ColumnElement[bool]]] = {
    "eq": operator.eq,
    "gte": operator.ge,
    "gt": operator.gt,
    "lte": operator.le,
    "lt": operator.lt,
    "in": lambda column, *values: column.in_(values),
    "prefix": lambda column, first, beyond: and_(column >= first, column < beyond),
}
OPERATORS: Final = (*_CONDITIONS, "isnull")
_MEANINGS = {
    "eq": "Rows whose `{}` is this",
    "gte": "Rows whose `{}` is this or more",
    "gt": "Rows whose `{}` is more than this",
    "lte": "Rows whose `{}` is this or less",
    "lt": "Rows whose `{}` is less than this",
    "in": "Rows whose `{}` is one of these: repeated, separated by commas, or both",
    "prefix": "Rows whose `{}` begins with this",
    "isnull": "`true`: rows without `{}`; `false`: rows that have it",
}


@dataclass(frozen=True)
class Filter(ABC):
    """A query parameter that selects rows of a list; `meaning` is its description in OpenAPI."""

    parameter: str
    meaning: str

    @property
    @abstractmethod
    def value_type(self) -> Any:
        """The type by which Pydantic validates a value."""

    async def resolve(self, sent: Any, fetch: Fetch) -> Any:
        """The value that the other methods get, for filters that must query the database for it."""
        return sent

    def values(self, sent: Any) -> dict[str, Any]:
        """The values to bind, by the names of the statement's parameters."""
        return {}

    @abstractmethod
    def shape(self, sent: Any) -> Hashable:
        """All that `condition` depends on."""

    @abstractmethod
    def condition(self, sent: Any) -> ColumnElement[bool]: ...

    def bound(self, *values: Any) -> dict[str, Any]:
        """The values by parameter names, which are unique whatever a column is called.

        The last value is repeated to pad them to a power of two. Each number of values is a
        statement of its own, which is compiled, prepared and cached: otherwise clients could create
        thousands.
        """
        length = 1 << (len(values) - 1).bit_length() if values else 0
        values += values[-1:] * (length - len(values))
        return {f"where_{place}_{self.parameter}": value for place, value in enumerate(values)}


@dataclass(frozen=True)
class ColumnFilter(Filter):
    """Compares a column with what is sent."""

    column: InstrumentedAttribute[Any]
    operator: str

    def values(self, sent: Any) -> dict[str, Any]:
        match self.operator:
            case "isnull":
                return {}
            case "in":
                return self.bound(*sent)
            case "prefix":
                return self.bound(sent, sent + LAST_CHARACTER)
        return self.bound(sent)

    def shape(self, sent: Any) -> Hashable:
        return self.parameter, sent if self.operator == "isnull" else len(self.values(sent))

    def condition(self, sent: Any) -> ColumnElement[bool]:
        if self.operator == "isnull":
            return self.column.is_(None) if sent else self.column.is_not(None)
        parameters = (bindparam(name, type_=self.column.type) for name in self.values(sent))
        return _CONDITIONS[self.operator](self.column, *parameters)

    @property
    def value_type(self) -> Any:
        if self.operator == "isnull":
            return bool
        one = filter_type_of(self.column.type)
        if one is None:
            why = f"filter_type of {self.column.type!r} is not known; state it on the type"
            raise TypeError(f"cannot filter by {self.column.key}: {why}")
        if self.operator != "in":
            return one
        if one is Line:
            one = Choice
        some = list[one]  # type: ignore[valid-type]  # made at run time
        bounds = Field(min_length=1, max_length=MAX_CHOICES)
        return Annotated[some, BeforeValidator(_split), bounds, REPEATABLE]


@dataclass(frozen=True)
class Condition(Filter):
    """Rows for which a condition is true, or false."""

    holds: ColumnElement[bool]

    @property
    def value_type(self) -> Any:
        return bool

    def shape(self, sent: bool) -> Hashable:
        return self.parameter, sent

    def condition(self, sent: bool) -> ColumnElement[bool]:
        return self.holds if sent else not_(self.holds)


@dataclass(frozen=True)
class HasAll(Filter):
    """Rows that have all of the values sent; a separate table holds those of each row."""

    sent_type: Any
    held: Column[Any]
    row_id: Column[int]
    of: InstrumentedAttribute[int]

    @property
    def value_type(self) -> Any:
        return Annotated[self.sent_type, Field(max_length=MAX_REPEATED), REPEATABLE]

    def values(self, sent: Sequence[Any]) -> dict[str, Any]:
        return self.bound(*sent)

    def shape(self, sent: Sequence[Any]) -> Hashable:
        return self.parameter, len(self.values(sent))

    def condition(self, sent: Sequence[Any]) -> ColumnElement[bool]:
        rows = (
            select(self.row_id).where(self.held == bindparam(name)) for name in self.values(sent)
        )
        return and_(*(self.of.in_(each) for each in rows))


def declared(filters: FieldOperators) -> Iterator[Filter]:
    for column, operators in filters.items():
        for name in operators:
            suffix = "" if name == "eq" else f"__{name}"
            meaning = _MEANINGS[name].format(column.key)
            yield ColumnFilter(f"{column.key}{suffix}", meaning, column, name)


def filter_type_of(type_: TypeEngine[Any]) -> Any:
    """What Pydantic makes a value of the column from; None if the type does not state it."""
    own = getattr(type_, "filter_type", None)
    return own or _TYPES.get(type(type_)) or _TYPES.get(type_.python_type)


def _split(sent: list[str]) -> list[str]:
    """Split `["a,b", "c"]` into `a`, `b` and `c`: clients send OpenAPI's style `form` both ways.

    Too many are refused before any is validated: each wrong one would be an error of its own, and
    one request can send 30,000.
    """
    length = sum(each.count(",") + 1 for each in sent)
    if length > MAX_CHOICES:
        bound = {"field_type": "List", "max_length": MAX_CHOICES, "actual_length": length}
        raise PydanticKnownError("too_long", bound)
    return [value for each in sent for value in each.split(",")]


_TYPES: dict[type, Any] = {
    bool: bool,
    int: Annotated[int, Field(ge=-MAX_ID, le=MAX_ID)],
    str: Line,
    Decimal: Money,
    FixedPoint: Number,
    date: Day,
    datetime: Moment,
    UUID: Uuid,
}
