"""Column types that behave alike on both engines, and what is asked of a type of your own.

A type of your own is a `TypeDecorator` with

- `python_type`, by which lists know its operators, and CSV files its cells;
- `json_spelling`, SQL by dialect in which `{0}` is the column: it writes the value into JSON, byte
  for byte as Pydantic would;
- `filter_type`, by which Pydantic reads a value in a query or a cursor; types of the standard
  library that the frame uses itself need none.
"""

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, ClassVar, TypeVar

from pydantic_core import to_json
from sqlalchemy import JSON, BigInteger, DateTime, Dialect, Integer, String
from sqlalchemy.types import TypeDecorator

# SQLite generates keys only for a column whose type is exactly INTEGER.
BigInt = BigInteger().with_variant(Integer, "sqlite")

# Sort by code points on both engines: pages must not depend on the server's locale, and an index
# can answer a prefix filter.
Text = String().with_variant(String(collation="C"), "postgresql")
LAST_CHARACTER = "\U0010ffff"

ItemT = TypeVar("ItemT")


class UTCDateTime(TypeDecorator[datetime]):
    """An aware UTC datetime on both engines; SQLite alone would return a naive one."""

    impl = DateTime(timezone=True)
    cache_ok = True
    python_type = datetime
    json_spelling: ClassVar = {
        "postgresql": (
            "replace(to_char({0} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US'),"
            " '.000000', '') || 'Z'"
        ),
        "sqlite": "replace(replace({0}, ' ', 'T'), '.000000', '') || 'Z'",
    }

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.replace(tzinfo=UTC) if value and value.tzinfo is None else value


class FixedPoint(TypeDecorator[Decimal]):
    """A decimal with six places, stored as an integer of millionths: SQLite has only floats."""

    impl = BigInteger
    cache_ok = True
    python_type = Decimal
    places = 6
    # In RETURNING, SQLite 3.40 evaluates `NULL IS NOT NULL` as true; hence `abs({0}) >= 0`.
    json_spelling: ClassVar = {
        "postgresql": (
            "CASE WHEN {0} < 0 THEN '-' ELSE '' END"
            " || (abs({0}) / 1000000)::text || '.' || lpad((abs({0}) % 1000000)::text, 6, '0')"
        ),
        "sqlite": (
            "CASE WHEN abs({0}) >= 0 THEN printf('%s%d.%06d',"
            " CASE WHEN {0} < 0 THEN '-' ELSE '' END,"
            " abs({0}) / 1000000, abs({0}) % 1000000) END"
        ),
    }

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> int | None:
        if value is None:
            return None
        scaled = value.scaleb(self.places)
        if scaled != int(scaled):
            raise ValueError(f"must have at most {self.places} decimals")
        return int(scaled)

    def process_result_value(self, value: int | None, dialect: Dialect) -> Decimal | None:
        return None if value is None else Decimal(value).scaleb(-self.places)


class Money(FixedPoint):
    """A decimal with two places, stored as an integer of cents."""

    cache_ok = True
    places = 2
    json_spelling: ClassVar = {
        "postgresql": "({0} / 100)::text || '.' || lpad(({0} % 100)::text, 2, '0')",
        "sqlite": "CASE WHEN abs({0}) >= 0 THEN printf('%d.%02d', {0} / 100, {0} % 100) END",
    }


class Document(TypeDecorator[Any]):
    """A JSON object or array; None is stored as SQL NULL, never as JSON null."""

    impl = JSON(none_as_null=True)
    cache_ok = True
    json_spelling: ClassVar = {"sqlite": "json({0})"}

    def compare_values(self, x: Any, y: Any) -> bool:
        # Compare as JSON: to Python 1, 1.0 and True are equal, so such a change would be lost.
        return json.dumps(x) == json.dumps(y)


class _List(TypeDecorator[list[ItemT]]):
    """A list, stored as JSON text: PostgreSQL's `json` type has no equality operator."""

    impl = Text
    cache_ok = True
    python_type = list
    json_spelling: ClassVar = {"postgresql": "{0}::json", "sqlite": "json({0})"}

    def process_bind_param(self, value: list[ItemT] | None, dialect: Dialect) -> str | None:
        return None if value is None else to_json(value).decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> list[ItemT] | None:
        return None if value is None else json.loads(value)


class StringList(_List[str]):
    """A list of strings."""

    cache_ok = True


class IdList(_List[int]):
    """A list of the ids of rows of another table; see `links`."""

    cache_ok = True
