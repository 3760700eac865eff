"""Reads the events of a resource, as the API shows its rows to one viewer."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import (
    JSON,
    Column,
    ColumnElement,
    and_,
    bindparam,
    cast,
    column,
    exists,
    func,
    inspect,
    join,
    literal_column,
    not_,
    null,
    or_,
    select,
    true,
)
from sqlalchemy.orm import aliased

from timberframe.crud.base import CRUDBase
from timberframe.crud.policy import Principal, viewer_values, with_rights_of
from timberframe.crud.reading import rights_of
from timberframe.data.events import Event, declared_events
from timberframe.data.query import AnySelect, Rows
from timberframe.data.rows_as_json import RowJSON
from timberframe.data.session import Database
from timberframe.schemas.page import Filtered

# Ids that one query looks at, however few of them are events that the viewer may read.
SCANNED = 500


class EventRow(NamedTuple):
    """An event; `content` is the row as the API shows it, and `head` its type and time: JSON."""

    id: int
    type: str
    content: str
    head: str


async def latest_event(db: Rows) -> int:
    """The id of the newest event, 0 without any."""
    ((latest,),) = await db.fetch("latest event", lambda: select(func.max(Event.id)), {})
    return latest or 0


async def first_and_last(db: Database) -> tuple[int, int]:
    """The ids of the oldest and the newest event; 0 and 0 without any."""

    def build() -> AnySelect:
        # Two lookups: SQLite would read the whole table for both in one.
        ends = (func.min(Event.id), func.max(Event.id))
        return select(*(select(end).scalar_subquery() for end in ends))

    ((first, last),) = await db.fetch("ends of events", build, {})
    return first or 0, last or 0


async def read_events(
    crud: CRUDBase[Any, Any, Any],
    db: Database,
    *,
    viewer: Principal | None,
    after: int,
    upto: int,
    params: Filtered | None = None,
) -> Sequence[EventRow]:
    """The events after one id up to another that `viewer` may read, in their order.

    They must be allowed to read the row as it was then, and as it is now: a row that was hidden
    from them at the time does not tell what it was. One that is gone for good is judged as it was
    last. The filters in `params` apply to the row as it was.
    """
    filters = await crud.filters_of(params, db.fetch) if params else ()
    values = viewer_values(viewer) | {"after": after, "upto": upto}
    for each, value in filters:
        values |= each.values(value)

    def conditions() -> Iterator[ColumnElement[bool]]:
        for each, value in filters:
            yield each.condition(value)

    shape = (
        *(crud, "events", db.engine.dialect.name, rights_of(viewer)),
        *(each.shape(value) for each, value in filters),
    )
    rows = await db.fetch(
        shape, lambda: _events(crud, viewer, db.engine.dialect.name, conditions()), values
    )
    return [EventRow(*row) for row in rows]


def _events(
    crud: CRUDBase[Any, Any, Any],
    viewer: Principal | None,
    dialect: str,
    filters: Iterator[ColumnElement[bool]],
) -> AnySelect:
    model, may_read = crud.model, crud.policy.read(with_rights_of(viewer))
    last, of_same_row = aliased(Event, name="last"), aliased(Event, name="of_same_row")
    source, was = _rows_as_they_were(crud, dialect, Event, "was")
    last_source, last_was = _rows_as_they_were(crud, dialect, last, "last_was")

    def then(condition: ColumnElement[bool], was: Mapping[str, Any] = was) -> ColumnElement[bool]:
        return crud.with_values(condition, lambda field: was.get(field, null()))

    row = exists().where(model.id == Event.row_id)
    # One lookup in an index, however many events a row has.
    of_row = (of_same_row.resource == Event.resource) & (of_same_row.row_id == Event.row_id)
    newest = select(func.max(of_same_row.id)).where(of_row).correlate(Event).scalar_subquery()
    was_last_shown = (
        exists().select_from(last_source).where(last.id == newest, then(may_read, last_was))
    ).correlate(Event)
    content = RowJSON({name: was[name] for name in crud.schema.model_fields})
    head = RowJSON({"type": Event.type, "timestamp": Event.created_at})
    return (
        select(Event.id, Event.type, content, head)
        .select_from(source)
        .where(
            Event.resource == model.__tablename__,
            Event.id > bindparam("after"),
            Event.id <= bindparam("upto"),
            then(may_read),
            or_(row.where(may_read), and_(not_(row), was_last_shown)),
            *map(then, filters),
        )
        .order_by(Event.id)
    )


def _rows_as_they_were(
    crud: CRUDBase[Any, Any, Any], dialect: str, event: Any, name: str
) -> tuple[Any, Mapping[str, ColumnElement[Any]]]:
    """What to select from, and the columns of an event's row, by field; `name` is for the row."""
    table: Any = crud.model.__table__
    declared = declared_events(table)
    columns: Any = inspect(crud.model).columns
    fields = {
        field: each
        for field, each in columns.items()
        if declared is not None and each.name in declared.columns
    }
    if dialect == "sqlite":
        return event, {
            field: func.json_extract(
                event.data, literal_column(f"'$.\"{each.name}\"'"), type_=each.type
            )
            for field, each in fields.items()
        }
    # The table's own row type: each value is read as the type of its column. Documents are texts.
    row = func.json_populate_record(literal_column(f'NULL::"{table.name}"'), event.data)
    was = row.table_valued(*(column(each.name, each.type) for each in fields.values())).alias(name)
    return join(event, was, true()), {
        field: cast(event.data.op("->>")(literal_column(f"'{each.name}'")), each.type)
        if _is_document(each)
        else was.c[each.name]
        for field, each in fields.items()
    }


def _is_document(each: Column[Any]) -> bool:
    return isinstance(getattr(each.type, "impl_instance", each.type), JSON)
