"""Events of a resource: the table they are in, and the triggers that write them.

The database itself writes an event with each change, so no write path can miss one: imports,
cascades and plain SQL included. It stores the columns, and readers get them as the API shows them.

On PostgreSQL the triggers run when the transaction commits, one transaction at a time: ids then
have the order in which others see the events, and whoever has read up to an id has missed none.
SQLite has one writer at a time anyway.

Migrations call `create_v1` and `drop_v1`, which must never change: a new way becomes a `_v2`. A
migration that drops a column of the events calls `drop_v1` before and `create_v1` after.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, Index, Table, delete, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from timberframe.data.base import Base, Identified, SoftDeletable, utc_now
from timberframe.data.column_types import Document, UTCDateTime
from timberframe.data.schema_check import EVENTS, event_columns, need_triggers

KINDS = ("created", "updated", "deleted", "restored")
_LOCK = 6_120_377_904  # arbitrary, but the same for all that write one database
PURGED_AT_ONCE = 1000
_PAIRS = 40  # of a call: PostgreSQL's functions take 100 arguments
_TRIGGERS = {
    "sqlite": "SELECT tbl_name, name, sql, sql FROM sqlite_master WHERE type = 'trigger'",
    "postgresql": """
        SELECT relname, tgname, pg_get_triggerdef(pg_trigger.oid), prosrc FROM pg_trigger
        JOIN pg_class ON pg_class.oid = tgrelid JOIN pg_proc ON pg_proc.oid = tgfoid
        WHERE NOT tgisinternal AND pg_table_is_visible(tgrelid)""",
}
# PostgreSQL cannot compare `json`, and as `jsonb` it would refuse a NUL that a document may have.
_DOCUMENTS = """
    SELECT attname FROM pg_attribute
    WHERE attrelid = to_regclass(:table) AND atttypid = 'json'::regtype"""


class Event(Identified, Base):
    """A change of a row: `data` has its columns as they were stored."""

    __tablename__ = "events"

    type: Mapped[str]  # such as product.updated
    resource: Mapped[str]  # the name of its table
    row_id: Mapped[int]
    data: Mapped[dict[str, Any]] = mapped_column(Document)
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)

    # With the resource in front, SQLite would use it instead of the range of ids.
    __table_args__ = (Index(None, "row_id", "resource", "id"),)


def event_name(model: type[Base]) -> str:
    """`stock_movement` for `StockMovement`: the first part of its types."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", model.__name__).lower()


class Declared(NamedTuple):
    """The events of a table: their name, and the columns that they record."""

    name: str
    columns: tuple[str, ...]
    is_soft_deletable: bool


def need_events(model: type[Base], columns: Collection[str]) -> None:
    """Register the triggers that write the events of a model, with these columns."""
    table: Any = model.__table__
    in_order = tuple(each.name for each in table.columns if each.name in columns)
    is_soft_deletable = issubclass(model, SoftDeletable)
    names = [
        f"{table.name}_event_{each}" for each in _triggers(is_soft_deletable=is_soft_deletable)
    ]
    need_triggers(table, dict.fromkeys(("sqlite", "postgresql"), names))
    table.info[EVENTS] = Declared(event_name(model), in_order, is_soft_deletable)


def declared_events(table: Table) -> Declared | None:
    declared: Declared | None = table.info.get(EVENTS)
    return declared


def read_recorded(connection: Connection) -> dict[str, Declared]:
    """The events that a database writes, by table."""
    rows = connection.exec_driver_sql(_TRIGGERS[connection.dialect.name])
    triggers = {name: (table, sql, body) for table, name, sql, body in rows}
    return {
        table: Declared(
            re.findall(r"\('(\w+)\.", body)[0],
            tuple(event_columns(sql)),
            f"{table}_event_restored" in triggers,
        )
        for name, (table, sql, body) in triggers.items()
        if name == f"{table}_event_updated"
    }


def create_v1(
    connection: Connection,
    table: str,
    name: str,
    *columns: str,
    is_soft_deletable: bool = False,
) -> None:
    """Write events such as `name.created`, with these columns, for all changes from now on.

    Earlier ones are kept, except those of a column that has another type now.
    """
    if connection.dialect.name == "sqlite":
        statements = _write_on_sqlite(table, name, columns, is_soft_deletable)
    else:
        documents = connection.execute(text(_DOCUMENTS), {"table": table}).scalars().all()
        statements = _write_on_postgresql(table, name, columns, is_soft_deletable, documents)
    for statement in statements:
        connection.exec_driver_sql(statement)


def drop_v1(connection: Connection, table: str) -> None:
    """Write no more events; those that were written stay."""
    if connection.dialect.name == "postgresql":
        # With the triggers that call it.
        connection.exec_driver_sql(f"DROP FUNCTION {table}_event() CASCADE")
        return
    for trigger in _triggers(is_soft_deletable=True):
        connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {table}_event_{trigger}")


async def purge_events(db: AsyncSession, *, days: int) -> int:
    """Delete some of the events that are older; return how many."""
    first = select(Event.id, Event.created_at).order_by(Event.id).limit(PURGED_AT_ONCE).subquery()
    old = select(first.c.id).where(first.c.created_at < utc_now() - timedelta(days=days))
    result: Any = await db.execute(delete(Event).where(Event.id.in_(old)))
    return int(result.rowcount)


async def forget_row(db: AsyncSession, table: str, row_id: int) -> None:
    """Delete what the events of a row say about it, but for its id and that it was deleted."""
    of_row = (Event.resource == table) & (Event.row_id == row_id)
    is_end = Event.type.like("%.deleted")
    await db.execute(delete(Event).where(of_row, ~is_end))
    await db.execute(update(Event).where(of_row, is_end).values(data={"id": row_id}))


def _triggers(*, is_soft_deletable: bool) -> tuple[str, ...]:
    always = ("created", "updated", "deleted")
    return (*always, "marked_deleted", "restored") if is_soft_deletable else always


def _occasions(
    columns: Sequence[str], is_soft_deletable: bool, differs: str, as_text: Collection[str] = ()
) -> Iterator[tuple[str, str, str, str]]:
    """The name of a trigger, the statement and the condition that fire it, the kind of event."""
    changed = " OR ".join(
        f"{_value('NEW', each, as_text)} {differs} {_value('OLD', each, as_text)}"
        for each in columns
    )
    if not is_soft_deletable:
        yield "created", "INSERT", "true", "created"
        yield "updated", "UPDATE", changed, "updated"
        yield "deleted", "DELETE", "true", "deleted"
        return
    was_kept, is_kept = "OLD.deleted_at IS NULL", "NEW.deleted_at IS NULL"
    was_deleted, is_deleted = "OLD.deleted_at IS NOT NULL", "NEW.deleted_at IS NOT NULL"
    yield "created", "INSERT", is_kept, "created"
    yield "updated", "UPDATE", f"{was_kept} AND {is_kept} AND ({changed})", "updated"
    yield "deleted", "DELETE", was_kept, "deleted"  # otherwise that was said when it was marked
    yield "marked_deleted", "UPDATE", f"{was_kept} AND {is_deleted}", "deleted"
    yield "restored", "UPDATE", f"{was_deleted} AND {is_kept}", "restored"


def _write_on_sqlite(
    table: str, name: str, columns: Sequence[str], is_soft_deletable: bool
) -> Iterator[str]:
    for trigger, operation, condition, kind in _occasions(columns, is_soft_deletable, "IS NOT"):
        row = "OLD" if operation == "DELETE" else "NEW"
        first, *others = _chunks(columns)
        data = f"json_object({_pairs(first, row)})"
        for some in others:
            data = f"json_insert({data}, {_pairs(some, row, '$.')})"
        yield f"""CREATE TRIGGER {table}_event_{trigger} AFTER {operation} ON {table}
            WHEN {condition} BEGIN
                INSERT INTO events (type, resource, row_id, data, created_at) VALUES
                ('{name}.{kind}', '{table}', {row}.id, {data},
                    strftime('%Y-%m-%d %H:%M:%f', 'now') || '000');
            END"""  # noqa: S608 - of names in the code


def _write_on_postgresql(
    table: str,
    name: str,
    columns: Sequence[str],
    is_soft_deletable: bool,
    documents: Collection[str],
) -> Iterator[str]:
    objects = (
        f"jsonb_build_object({_pairs(some, 'was', as_text=documents)})" for some in _chunks(columns)
    )
    data = " || ".join(objects)
    yield f"""CREATE FUNCTION {table}_event() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE was {table}%ROWTYPE;
        BEGIN
            IF TG_OP = 'DELETE' THEN was := OLD; ELSE was := NEW; END IF;
            PERFORM pg_advisory_xact_lock({_LOCK});
            INSERT INTO events (type, resource, row_id, data, created_at) VALUES
                ('{name}.' || TG_ARGV[0], '{table}', was.id, ({data})::json, clock_timestamp());
            PERFORM pg_notify('events', '');
            RETURN NULL;
        END $$"""  # noqa: S608 - of names in the code
    for trigger, operation, condition, kind in _occasions(
        columns, is_soft_deletable, "IS DISTINCT FROM", documents
    ):
        yield f"""CREATE CONSTRAINT TRIGGER {table}_event_{trigger} AFTER {operation} ON {table}
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN ({condition})
            EXECUTE FUNCTION {table}_event('{kind}')"""
    # One that cannot be read as a row of the table would end each stream that comes to it.
    yield f"""DO $$
        DECLARE event record;
        BEGIN
            PERFORM json_populate_record(NULL::{table}, data) FROM events
                WHERE resource = '{table}';
        EXCEPTION WHEN data_exception THEN
            FOR event IN SELECT id, data FROM events WHERE resource = '{table}' LOOP
                BEGIN
                    PERFORM json_populate_record(NULL::{table}, event.data);
                EXCEPTION WHEN data_exception THEN
                    DELETE FROM events WHERE id = event.id;
                END;
            END LOOP;
        END $$"""  # noqa: S608 - of names in the code


def _chunks(columns: Sequence[str]) -> list[Sequence[str]]:
    return [columns[start : start + _PAIRS] for start in range(0, len(columns), _PAIRS)]


def _pairs(columns: Sequence[str], row: str, path: str = "", as_text: Collection[str] = ()) -> str:
    return ", ".join(f"'{path}{each}', {_value(row, each, as_text)}" for each in columns)


def _value(row: str, column: str, as_text: Collection[str]) -> str:
    return f'{row}."{column}"{"::text" if column in as_text else ""}'
