"""The base of all models: constraint names, column types alike on both engines, and mixins."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, ClassVar

from pydantic_core import to_json
from sqlalchemy import JSON, BigInteger, DateTime, Dialect, Integer, MetaData, String, Table, func
from sqlalchemy.orm import DeclarativeBase, Mapped, declared_attr, mapped_column
from sqlalchemy.types import TypeDecorator

MAX_ID = 2**63 - 1


# SQLite generates keys only for a column whose type is exactly INTEGER.
BigInt = BigInteger().with_variant(Integer, "sqlite")

# Sort by code points on both engines: pages must not depend on the server's locale, and an index
# can answer a prefix filter.
Text = String().with_variant(String(collation="C"), "postgresql")
LAST_CHARACTER = "\U0010ffff"


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )

    type_annotation_map: ClassVar = {int: BigInteger, str: Text}

    id: Mapped[int]


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
            raise ValueError(f"there are no more than {self.places} decimals")
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


class StringList(TypeDecorator[list[str]]):
    """A list of strings, stored as JSON text: PostgreSQL's `json` type has no equality operator."""

    impl = Text
    cache_ok = True
    python_type = list
    json_spelling: ClassVar = {"postgresql": "{0}::json", "sqlite": "json({0})"}

    def process_bind_param(self, value: list[str] | None, dialect: Dialect) -> str | None:
        return None if value is None else to_json(value).decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> list[str] | None:
        return None if value is None else json.loads(value)


def utc_now() -> datetime:
    return datetime.now(UTC)


class Identified:
    """A positive 64-bit key that is never reused, so that an old token cannot match a new user."""

    id: Mapped[int] = mapped_column(BigInt, primary_key=True, sort_order=-1)

    @classmethod
    def __table_cls__(cls, *arguments: Any, **options: Any) -> Table:
        # Without AUTOINCREMENT, SQLite would reuse the highest key after its row is deleted.
        return Table(*arguments, sqlite_autoincrement=True, **options)


class Timestamped:
    """Set in Python, with microseconds on both engines; the server default is for plain SQL."""

    created_at: Mapped[datetime] = mapped_column(
        UTCDateTime, default=utc_now, server_default=func.now(), sort_order=1
    )
    updated_at: Mapped[datetime] = mapped_column(
        UTCDateTime,
        default=lambda context: context.get_current_parameters()["created_at"],
        onupdate=utc_now,
        server_default=func.now(),
        sort_order=1,
    )


class Versioned:
    """A version counter: updating a row that changed since it was read raises `StaleDataError`."""

    version: Mapped[int] = mapped_column(default=1, server_default="1", sort_order=2)

    @declared_attr.directive
    def __mapper_args__(cls) -> dict[str, Any]:  # noqa: N805 - called with the class
        return {"version_id_col": cls.version}


class SoftDeletable:
    """Deleted rows are hidden and can be restored; meanwhile others may use their unique values."""

    deleted_at: Mapped[datetime | None] = mapped_column(UTCDateTime, sort_order=2)


class Record(Identified, Timestamped, Versioned, Base):
    """The usual base of a model: an id, `created_at` and `updated_at`, and a version."""

    __abstract__ = True
