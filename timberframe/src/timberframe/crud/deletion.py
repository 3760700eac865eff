"""Delete a row with all that belongs to it, however much that is, in short transactions."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Delete,
    ForeignKey,
    Integer,
    Table,
    Update,
    delete,
    false,
    func,
    literal,
    not_,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from timberframe.data.failures import ConstraintViolated
from timberframe.data.retries import retrying
from timberframe.data.session import Database
from timberframe.errors import Conflict, DeletionUnfinished

BATCH_ROWS = 1000
CASCADED_ROWS = 5000  # left to the database's own cascade, which is ten times as fast
SECONDS = 5.0  # for one request; its last batch may take longer
_RULES = ("CASCADE", "SET NULL")
_PAUSE = 0.25  # for each second of writing: others poll for SQLite's lock and need a gap

Rows = ColumnElement[bool]  # which rows of a table
Key = Sequence[Any]  # a primary key


class Deletion:
    """Deletes a row, and the rows of other tables that refer to it.

    It follows the foreign keys: `ON DELETE CASCADE` and `ON DELETE SET NULL` are carried out level
    by level, before the row that they refer to is deleted. Any other reference forbids the
    deletion. If a deletion ends early, the next one continues it.
    """

    def __init__(self, database: Database, *, seconds: float) -> None:
        self._database = database
        self._deadline = time.monotonic() + seconds

    async def run(self, table: Table, key: Sequence[Any]) -> bool:
        """Delete the row with this primary key; return whether it still existed.

        Raise `DeletionUnfinished` when the time is up, and `Conflict` if another row refers to one.
        """
        await self._clear_references(table, [key], (table,))
        return await self._write(table.delete().where(_with_keys(table, [key]))) == 1

    async def _clear_references(
        self, table: Table, keys: Sequence[Key], above: Sequence[Table]
    ) -> None:
        """Delete, or set to null, all that refers to these rows.

        In a cycle, a table that is already in `above` is left to the database's own cascade.
        """
        for reference in _references_to(table):
            child = reference.parent.table
            if child in above or reference.ondelete not in _RULES:
                continue
            referring = _referring_to_keys(reference, keys)
            if await self._cascade_suffices(child, referring):
                continue
            last: Key | None = None
            while batch := await self._batch(child, referring, after=last, in_order=len(keys) == 1):
                rows = _with_keys(child, batch)
                if reference.ondelete == "CASCADE":
                    await self._clear_references(child, batch, (*above, child))
                    await self._write(delete(child).where(rows))
                else:
                    await self._write(_set_null(reference).where(rows))
                if time.monotonic() > self._deadline:
                    raise DeletionUnfinished
                last = batch[-1]

    async def _cascade_suffices(self, table: Table, rows: Rows) -> bool:
        """Whether the database's own cascade may delete or change these rows in one statement."""
        # Not if other rows refer to them, or if a foreign key of theirs could block the deletion of
        # another row before their own batch is reached.
        if any(_references_to(table)) or any(
            key.ondelete not in _RULES for key in table.foreign_keys
        ):
            return False
        one = select(literal(1, Integer)).select_from(table).where(rows).limit(CASCADED_ROWS + 1)
        async with self._database.reading() as db:
            count = await db.scalar(select(func.count()).select_from(one.subquery()))
        return (count or 0) <= CASCADED_ROWS

    async def _batch(
        self, table: Table, rows: Rows, *, after: Key | None, in_order: bool
    ) -> Sequence[Key]:
        """The keys of a batch of these rows."""
        columns = table.primary_key.columns
        batch = select(*columns).where(rows).limit(BATCH_ROWS)
        if in_order:
            # Otherwise PostgreSQL would scan the dead rows of all earlier batches each time.
            batch = batch.order_by(*columns)
            batch = batch if after is None else batch.where(tuple_(*columns) > tuple(after))
        async with self._database.reading() as db:
            return [tuple(key) for key in await db.execute(batch)]

    async def _write(self, statement: Delete | Update) -> int:
        started = time.monotonic()
        changed = await retrying(partial(self._write_once, statement))
        await asyncio.sleep((time.monotonic() - started) * _PAUSE)
        return changed

    async def _write_once(self, statement: Delete | Update) -> int:
        async with self._database.transaction() as db:
            try:
                result: Any = await db.execute(statement)
            except IntegrityError as error:
                if ConstraintViolated.of(error).kind != "reference":
                    raise
                raise Conflict("Other rows refer to a row that would be deleted") from error
            return int(result.rowcount)


async def check_nothing_forbids(db: AsyncSession, table: Table, rows: Rows) -> None:
    """Raise `Conflict` if a row that would stay refers to one that would be deleted."""
    going: dict[Table, list[Rows]] = {}
    holding: list[tuple[ForeignKey, Rows]] = []
    for key, referring in _all_references(table, rows, (table,)):
        if key.ondelete == "CASCADE":
            going.setdefault(key.parent.table, []).append(referring)
        elif key.ondelete not in _RULES:
            holding.append((key, referring))
    for key, referring in holding:
        child = key.parent.table
        stays = not_(func.coalesce(or_(false(), *going.get(child, ())), false()))
        if await db.scalar(select(key.parent).where(referring, stays).limit(1)) is not None:
            raise Conflict(
                f"There are {child.name} of others that refer to rows that would be deleted"
            )


def _all_references(
    table: Table, rows: Rows, above: Sequence[Table]
) -> Iterator[tuple[ForeignKey, Rows]]:
    for key in _references_to(table):
        child, referring = key.parent.table, _referring(key, rows)
        yield key, referring
        if key.ondelete == "CASCADE" and child not in above:
            yield from _all_references(child, referring, (*above, child))


def _references_to(table: Table) -> Iterator[ForeignKey]:
    """Foreign keys that refer to `table`; dependent tables come before those they depend on."""
    for child in reversed(table.metadata.sorted_tables):
        for key in child.foreign_keys:
            if key.column.table is table:
                yield key


def _with_keys(table: Table, keys: Sequence[Key]) -> Rows:
    columns = table.primary_key.columns
    if len(columns) == 1:
        return columns[0].in_([key[0] for key in keys])
    return tuple_(*columns).in_([tuple(key) for key in keys])


def _referring(key: ForeignKey, rows: Rows) -> Rows:
    return key.parent.in_(select(key.column).where(rows))


def _referring_to_keys(key: ForeignKey, keys: Sequence[Key]) -> Rows:
    table = key.column.table
    if [key.column] == list(table.primary_key.columns):
        return key.parent.in_([each[0] for each in keys])
    return _referring(key, _with_keys(table, keys))


def _set_null(key: ForeignKey) -> Update:
    """As the database does it: columns with `onupdate`, such as `updated_at`, stay as they are."""
    child = key.parent.table
    unchanged = {column: column for column in child.columns if column.onupdate is not None}
    return update(child).values({**unchanged, key.parent: None})
