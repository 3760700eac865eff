"""Bulk upsert: insert rows, or update those whose key exists; one statement per batch."""

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import partial
from operator import itemgetter
from typing import Any, NamedTuple, Self, cast

from pydantic import BaseModel
from pydantic_core import from_json, to_json
from sqlalchemy import (
    Column,
    ColumnElement,
    Dialect,
    Select,
    Table,
    True_,
    and_,
    bindparam,
    column,
    false,
    func,
    inspect,
    literal,
    literal_column,
    not_,
    or_,
    select,
    text,
    true,
    union_all,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.types import JSON, String, TypeEngine

from timberframe.crud.base import CRUDBase
from timberframe.crud.policy import Principal
from timberframe.data.base import Base, SoftDeletable, Timestamped, Versioned, utc_now
from timberframe.data.column_types import Document
from timberframe.data.failures import ConstraintViolated
from timberframe.data.query import bind_processor
from timberframe.data.unit_of_work import UnitOfWork
from timberframe.errors import Conflict

# One parameter for all rows, rather than one for each of their cells.
_ROWS = bindparam("rows", type_=String())


@dataclass(frozen=True)
class Batch:
    """Valid rows as JSON; existing rows get the `sent` fields, and keep the others."""

    rows: str
    count: int
    sent: frozenset[str]

    @classmethod
    def of(cls, rows: Sequence[bytes], sent: frozenset[str]) -> Self:
        return cls(f"[{b','.join(rows).decode()}]", len(rows), sent)

    def keys(self, column: str) -> list[str]:
        """In the order of the rows."""
        return [row[column] for row in from_json(self.rows)]

    def without(self, column: str, keys: Set[str]) -> Self:
        """The rows whose `column` has none of these keys."""
        rows = [to_json(row) for row in from_json(self.rows) if row[column] not in keys]
        return self.of(rows, self.sent)


class Reference(NamedTuple):
    """A field that refers to another `resource`, and whether a value of it names a row there."""

    field: str
    is_known: Callable[[ColumnElement[Any]], ColumnElement[bool]]
    resource: str


class Refused(NamedTuple):
    """A row of a batch that cannot be written, by its key."""

    key: str
    field: str | None  # None for the whole row
    reason: str


@dataclass(frozen=True)
class Upserted:
    created: int
    updated: int
    unchanged: int
    refused: Sequence[Refused]

    @property
    def rows(self) -> int:
        return self.created + self.updated + self.unchanged + len(self.refused)


class Upsert:
    """Upserts rows by the natural key, which is unique among rows that are not deleted.

    Raise `NotPermitted` if `viewer` may create none of its rows; `run` is given their owner.
    Columns that neither `schema` nor `run` has get the database's defaults.
    """

    def __init__(
        self,
        crud: CRUDBase[Any, Any, Any],
        schema: type[BaseModel],
        viewer: Principal,
        dialect: Dialect,
    ) -> None:
        self.model: type[Base] = crud.model
        if not (issubclass(self.model, Versioned) and hasattr(crud, "natural_key")):
            raise TypeError(f"{self.model.__name__} needs versions and a natural_key")
        crud.check_creator(viewer)
        self.crud = crud
        self.viewer = viewer
        self.dialect = dialect
        self.row_limit = crud.row_limit
        self.table = cast(Table, crud.model.__table__)
        self.references = [
            Reference(
                column.key, partial(crud.is_known, column, viewer=viewer), other.model.__name__
            )
            for column, other in crud.references.items()
            if column.key in schema.model_fields
        ]
        key = self.key_field = crud.natural_key
        columns = inspect(crud.model).columns
        self.key = self.table.c[columns[key].name]
        self.columns: dict[str, Column[Any]] = {
            field: self.table.c[columns[field].name] for field in schema.model_fields
        }
        if any(isinstance(column.type, (JSON, Document)) for column in self.columns.values()):
            raise TypeError(
                f"{self.model.__name__} has JSON columns, which PostgreSQL cannot compare"
            )
        self._stored = [
            # A plain string: SQLAlchemy's `quoted_name` would be serialized ten times as slowly.
            (field, str(column.name), _storer(column.type, dialect))
            for field, column in self.columns.items()
        ]

    def encode(self, row: BaseModel) -> bytes:
        """One row of a `Batch`."""
        return to_json({name: store(getattr(row, field)) for field, name, store in self._stored})

    async def run(
        self, db: UnitOfWork, batch: Batch, values: Mapping[str, Any], *, pending: int = 0
    ) -> Upserted:
        """Write a batch in the caller's transaction.

        `values` are columns that the client does not choose; rows where these differ are refused.
        `pending` rows count towards the limit though they are not stored, as in a dry run.
        """
        if beyond := await self._beyond_limit(db, batch, values, pending):
            fitting = batch.without(str(self.key.name), {row.key for row in beyond})
            done = await self._run(db, fitting, values)
            return replace(done, refused=[*beyond, *done.refused])
        return await self._run(db, batch, values)

    async def _run(self, db: UnitOfWork, batch: Batch, values: Mapping[str, Any]) -> Upserted:
        statement = self._statement(_dialect(db), batch.sent, values)
        try:
            written = (await db.execute(statement, {"rows": batch.rows})).all()
        except IntegrityError as error:
            if ConstraintViolated.of(error).kind != "reference":
                raise
            raise Conflict(f"{self.model.__name__} refers to something that has changed") from error
        created = sum(version == 1 for _, version in written)
        refused: list[Refused] = []
        if len(written) < batch.count:
            keys = {key for key, _ in written}  # the change itself may have cost `viewer` access
            every = await self.refused(db, batch, values)
            refused = [each for each in every if each.key not in keys]
        return Upserted(
            created=created,
            updated=len(written) - created,
            unchanged=batch.count - len(written) - len(refused),
            refused=refused,
        )

    async def refused(
        self, db: AsyncSession, batch: Batch, values: Mapping[str, Any]
    ) -> Sequence[Refused]:
        """The rows that cannot be written, each with its first reason.

        Their key belongs to a row with other `values` or one that `viewer` may not write, they
        refer to an unknown row, or they are new and `viewer` may not create them.
        """
        unpacked = _unpacked(_dialect(db), self.columns)
        others = or_(false(), *(self.table.c[name] != value for name, value in values.items()))
        closed = not_(func.coalesce(self.crud.policy.write(self.viewer), false()))
        sent = select(unpacked[self.key_field].label("key"))
        taken = select(self.key).where(self.key.in_(sent), self._is_kept())
        creatable = self._is_creatable(unpacked, values, or_row=self._row_of(unpacked))
        new = sent.where(not_(func.coalesce(creatable, false())))
        reasons: list[tuple[str | None, Select[Any], str]] = [
            (self.key_field, taken.where(others), "belongs to a row of somebody else"),
            (
                self.key_field,
                taken.where(closed),
                "belongs to a row that you may not change",
            ),
        ]
        for each in self.references:
            unknown = sent.where(not_(each.is_known(unpacked[each.field])))
            reasons.append((each.field, unknown, f"no such {each.resource}"))
        reasons.append((None, new, "you may not create this row"))
        # One query for all reasons: most batches that get here merely have unchanged rows.
        rows = union_all(
            *(query.add_columns(literal(rank)) for rank, (_, query, _) in enumerate(reasons))
        )
        found: dict[str, Refused] = {}
        for key, rank in sorted(await db.execute(rows, {"rows": batch.rows}), key=itemgetter(1)):
            field, _, reason = reasons[rank]
            found.setdefault(key, Refused(key, field, reason))
        return list(found.values())

    async def _beyond_limit(
        self, db: UnitOfWork, batch: Batch, values: Mapping[str, Any], pending: int
    ) -> Sequence[Refused]:
        """The new rows at the end of the batch that exceed the row limit of their owner."""
        limit = self.row_limit
        if limit is None:
            return []
        owner = values[limit.owner.key]
        await db.take_lock(limit.lock(owner))
        used = await db.scalar(select(limit.used(literal(owner, limit.owner.type)))) or 0
        room = max(0, limit.rows - used - pending)
        if batch.count <= room:
            return []
        sent = select(_unpacked(_dialect(db), self.columns)[self.key_field].label("key"))
        there = select(self.key).where(self.key.in_(sent), self._is_kept())
        known = set(await db.scalars(there, {"rows": batch.rows}))
        new = [key for key in batch.keys(str(self.key.name)) if key not in known]
        reason = f"one owner may have at most {limit.rows}"
        return [Refused(key, self.key_field, reason) for key in new[room:]]

    def _statement(self, dialect: str, sent: Set[str], values: Mapping[str, Any]) -> Any:
        given = dict(values)
        if issubclass(self.model, Timestamped):
            given["created_at"] = given["updated_at"] = utc_now()
        unpacked = _unpacked(dialect, self.columns)
        rows = select(
            *unpacked.values(),
            *(literal(value, self.table.c[name].type) for name, value in given.items()),
        ).where(
            text("true"),  # or SQLite parses ON CONFLICT as a join condition
            self._is_creatable(unpacked, given, or_row=self._row_of(unpacked, is_locked=True)),
            *(each.is_known(unpacked[each.field]) for each in self.references),
        )
        insert = (postgresql if dialect == "postgresql" else sqlite).insert(self.table)
        insert = insert.from_select(
            [*(c.name for c in self.columns.values()), *given], rows, include_defaults=False
        )
        new = insert.excluded
        changing = [c for field, c in self.columns.items() if field in sent and c is not self.key]
        set_: dict[str, Any] = {c.name: new[c.name] for c in changing}
        if issubclass(self.model, Timestamped):
            set_["updated_at"] = new.updated_at
        set_["version"] = self.table.c.version + 1
        return insert.on_conflict_do_update(
            index_elements=[self.key],
            index_where=self._is_kept(),
            set_=set_,
            where=and_(
                self._is_writable(),
                *(self.table.c[name] == new[name] for name in values),
                or_(false(), *(c.is_distinct_from(new[c.name]) for c in changing)),
            ),
        ).returning(self.key, self.table.c.version)

    def _is_writable(self) -> ColumnElement[bool]:
        """Whether `viewer` may write the existing row, in the upsert's WHERE.

        Its columns are literals: for a real column, SQLAlchemy would add the table to the FROM of
        the rule's subqueries, which would then not read this row.
        """
        columns = inspect(self.model).columns
        quoted = self.dialect.identifier_preparer

        def stored(field: str) -> ColumnElement[Any]:
            column = columns[field]
            return literal_column(quoted.format_column(column, use_table=True), column.type)

        return self.crud.with_values(self.crud.policy.write(self.viewer), stored)

    def _is_creatable(
        self,
        unpacked: Mapping[str, ColumnElement[Any]],
        given: Mapping[str, Any],
        *,
        or_row: ColumnElement[bool],
    ) -> ColumnElement[bool]:
        """Whether `viewer` may create the row, or it exists: then it is updated, not created."""
        rule = self.crud.policy.creatable(self.viewer)
        if isinstance(rule, True_):
            return rule  # no need to look for rows
        columns = inspect(self.model).columns

        def new(field: str) -> ColumnElement[Any]:
            if field in unpacked:
                return unpacked[field]
            column = columns[field]
            # Columns that the database fills are not known yet: as nulls they meet no condition.
            return literal(given.get(column.name), column.type)

        return or_(self.crud.with_values(rule, new), or_row)

    def _row_of(
        self, unpacked: Mapping[str, ColumnElement[Any]], *, is_locked: bool = False
    ) -> ColumnElement[bool]:
        """Whether there is a row with this key; `is_locked` keeps it there until it is updated."""
        row = select(self.key).where(self.key == unpacked[self.key_field], self._is_kept())
        return (row.with_for_update(key_share=True) if is_locked else row).exists()

    def _is_kept(self) -> ColumnElement[bool]:
        if not issubclass(self.model, SoftDeletable):
            return true()
        return self.table.c.deleted_at.is_(None)


def _unpacked(dialect: str, columns: Mapping[str, Column[Any]]) -> dict[str, ColumnElement[Any]]:
    """The columns of the rows in the parameter `rows`, by field."""
    if dialect == "postgresql":
        records = func.json_to_recordset(_ROWS.cast(JSON))
        row = records.table_valued(*(column(c.name, c.type) for c in columns.values()))
        return dict(zip(columns, row.render_derived(with_types=True).c, strict=True))
    row = func.json_each(_ROWS).table_valued("value")
    return {
        field: func.json_extract(row.c.value, f"$.{c.name}", type_=c.type)
        for field, c in columns.items()
    }


def _storer(type_: TypeEngine[Any], dialect: Dialect) -> Callable[[Any], Any]:
    """Converts a value to what is stored, such as an amount to cents."""
    return bind_processor(type_, dialect) or (lambda value: value)


def _dialect(db: AsyncSession) -> str:
    return db.get_bind().dialect.name
