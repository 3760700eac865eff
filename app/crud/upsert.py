"""Rows in bulk: inserted, or updated where their key is there already; one statement a batch."""

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial
from typing import Any, Self, cast

from pydantic import BaseModel
from pydantic_core import to_json
from sqlalchemy import (
    Column,
    ColumnElement,
    Dialect,
    Table,
    TypeDecorator,
    and_,
    bindparam,
    column,
    func,
    inspect,
    literal,
    or_,
    select,
    text,
    true,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.types import JSON, String, TypeEngine

from app.core.errors import Conflict
from app.db.base import Base, SoftDeletable, Timestamped, Versioned, utc_now

# One value however many rows there are, rather than one for each of their cells.
_ROWS = bindparam("rows", type_=String())


@dataclass(frozen=True)
class Batch:
    """Valid rows as JSON; those already there get the `sent` fields, and keep the others."""

    rows: str
    count: int
    sent: frozenset[str]

    @classmethod
    def of(cls, rows: Sequence[bytes], sent: frozenset[str]) -> Self:
        return cls(f"[{b','.join(rows).decode()}]", len(rows), sent)


@dataclass(frozen=True)
class Upserted:
    """`taken` are the keys of rows that are not the caller's."""

    created: int
    updated: int
    unchanged: int
    taken: Sequence[str]

    @property
    def rows(self) -> int:
        return self.created + self.updated + self.unchanged + len(self.taken)


class Upsert:
    """For one model, by its `key`, a column that is unique among rows that are not deleted."""

    def __init__(
        self, model: type[Base], key: str, schema: type[BaseModel], dialect: Dialect
    ) -> None:
        self.model = model
        self.table = cast(Table, model.__table__)
        columns = inspect(model).columns
        self.key = self.table.c[columns[key].name]
        self.columns = {field: self.table.c[columns[field].name] for field in schema.model_fields}
        self._stored = [
            # A plain string: SQLAlchemy's own kind would be written ten times as slowly.
            (field, str(column.name), _storer(column.type, dialect))
            for field, column in self.columns.items()
        ]

    def encode(self, row: BaseModel) -> bytes:
        """One row of a `Batch`."""
        return to_json({name: store(getattr(row, field)) for field, name, store in self._stored})

    async def run(self, db: AsyncSession, batch: Batch, values: Mapping[str, Any]) -> Upserted:
        """`values` are the columns that the client has no say in; rows where these differ stay."""
        statement = self._statement(_dialect(db), batch.sent, values)
        try:
            versions = (await db.scalars(statement, {"rows": batch.rows})).all()
        except IntegrityError as error:
            raise Conflict(f"{self.model.__name__} refers to something that has changed") from error
        created = versions.count(1)
        taken = [] if len(versions) == batch.count else await self.taken(db, batch, values)
        return Upserted(
            created=created,
            updated=len(versions) - created,
            unchanged=batch.count - len(versions) - len(taken),
            taken=taken,
        )

    async def taken(
        self, db: AsyncSession, batch: Batch, values: Mapping[str, Any]
    ) -> Sequence[str]:
        """The keys of the batch that stand on rows where `values` differ."""
        sent = _unpacked(_dialect(db), [self.key])
        others = or_(*(self.table.c[name] != value for name, value in values.items()))
        rows = select(self.key).where(self.key.in_(select(*sent)), self._is_kept(), others)
        return (await db.scalars(rows, {"rows": batch.rows})).all()

    def _statement(self, dialect: str, sent: Set[str], values: Mapping[str, Any]) -> Any:
        given = dict(values)
        if issubclass(self.model, Timestamped):
            given["created_at"] = given["updated_at"] = utc_now()
        rows = select(
            *_unpacked(dialect, list(self.columns.values())),
            *(literal(value, self.table.c[name].type) for name, value in given.items()),
        ).where(text("true"))  # or SQLite takes ON CONFLICT for the condition of a join
        insert = (postgresql if dialect == "postgresql" else sqlite).insert(self.table)
        insert = insert.from_select(
            [*(c.name for c in self.columns.values()), *given], rows, include_defaults=False
        )
        new = insert.excluded
        changing = [c for field, c in self.columns.items() if field in sent and c is not self.key]
        set_: dict[str, Any] = {c.name: new[c.name] for c in changing}
        if issubclass(self.model, Timestamped):
            set_["updated_at"] = new.updated_at
        if issubclass(self.model, Versioned):
            set_["version"] = self.table.c.version + 1
        return insert.on_conflict_do_update(
            index_elements=[self.key],
            index_where=self._is_kept(),
            set_=set_,
            where=and_(
                *(self.table.c[name] == new[name] for name in values),
                or_(*(c.is_distinct_from(new[c.name]) for c in changing)),
            ),
        ).returning(self.table.c.version)

    def _is_kept(self) -> ColumnElement[bool]:
        if not issubclass(self.model, SoftDeletable):
            return true()
        return self.table.c.deleted_at.is_(None)


def _unpacked(dialect: str, columns: Sequence[Column[Any]]) -> list[ColumnElement[Any]]:
    """The columns of the rows that `rows` holds, in their order."""
    if dialect == "postgresql":
        records = func.json_to_recordset(_ROWS.cast(JSON))
        row = records.table_valued(*(column(c.name, c.type) for c in columns))
        return list(row.render_derived(with_types=True).c)
    row = func.json_each(_ROWS).table_valued("value")
    return [func.json_extract(row.c.value, f"$.{c.name}", type_=c.type) for c in columns]


def _storer(type_: TypeEngine[Any], dialect: Dialect) -> Callable[[Any], Any]:
    """How a value is stored, where that is not what it is: cents of an amount."""
    if isinstance(type_, TypeDecorator):
        return partial(type_.process_bind_param, dialect=dialect)
    return lambda value: value


def _dialect(db: AsyncSession) -> str:
    return db.get_bind().dialect.name
