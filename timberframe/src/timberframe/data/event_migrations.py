"""Autogenerate for events: write `create_v1` and `drop_v1` where the declarations ask for it.

Importing it is enough: Alembic finds these functions by its registries. Columns may be dropped only
without the triggers that record them, and recorded only once they are there.
"""

from collections.abc import Iterator
from typing import Any

from alembic.autogenerate import comparators, renderers
from alembic.autogenerate.api import AutogenContext
from alembic.operations import ops
from alembic.util import DispatchPriority
from sqlalchemy import MetaData

from timberframe.data.events import Declared, declared_events, read_recorded


class CreateEvents(ops.MigrateOperation):
    def __init__(self, table: str, events: Declared) -> None:
        self.table = table
        self.events = events

    def reverse(self) -> "DropEvents":
        return DropEvents(self.table, self.events)

    def to_diff_tuple(self) -> tuple[str, str]:
        return "create_events", self.table


class DropEvents(ops.MigrateOperation):
    def __init__(self, table: str, events: Declared) -> None:
        self.table = table
        self.events = events

    def reverse(self) -> CreateEvents:
        return CreateEvents(self.table, self.events)

    def to_diff_tuple(self) -> tuple[str, str]:
        return "drop_events", self.table


@comparators.dispatch_for("schema", priority=DispatchPriority.FIRST)
def _drop(context: AutogenContext, upgrade: ops.UpgradeOps, schemas: Any) -> None:
    for table, before, _ in _changed(context):
        if before:
            upgrade.ops.append(DropEvents(table, before))


@comparators.dispatch_for("schema", priority=DispatchPriority.LAST)
def _create(context: AutogenContext, upgrade: ops.UpgradeOps, schemas: Any) -> None:
    for table, _, after in _changed(context):
        if after:
            upgrade.ops.append(CreateEvents(table, after))


def _changed(
    context: AutogenContext,
) -> Iterator[tuple[str, Declared | None, Declared | None]]:
    """The tables whose events differ: as the database records them, and as they are declared."""
    metadata, connection = context.metadata, context.connection
    if connection is None or not isinstance(metadata, MetaData):
        return
    recorded = read_recorded(connection)
    declared = {
        table.name: events
        for table in metadata.tables.values()
        if (events := declared_events(table))
    }
    for table in sorted(recorded.keys() | declared.keys()):
        before, after = recorded.get(table), declared.get(table)
        if not (before and after and _plain(before) == _plain(after)):
            yield table, before, after


def _plain(events: Declared) -> Declared:
    return events._replace(columns=tuple(sorted(events.columns)))


@renderers.dispatch_for(CreateEvents)
def _render_create(context: AutogenContext, change: CreateEvents) -> str:
    context.imports.add("from timberframe.data import events")
    name, columns, is_soft_deletable = change.events
    texts = (change.table, name, *columns)
    soft = ", is_soft_deletable=True" if is_soft_deletable else ""
    arguments = ", ".join(f'"{each}"' for each in texts)
    return f"events.create_v1(op.get_bind(), {arguments}{soft})"


@renderers.dispatch_for(DropEvents)
def _render_drop(context: AutogenContext, change: DropEvents) -> str:
    context.imports.add("from timberframe.data import events")
    return f'events.drop_v1(op.get_bind(), "{change.table}")'
