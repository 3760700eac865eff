"""`migration`: write what the models have and the database lacks; `migrate --pretend`."""

import argparse
import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from alembic import command
from alembic.operations import ops
from alembic.util.exc import CommandError as AlembicError
from sqlalchemy import Connection, Engine, event

from timberframe.data.options import DatabaseOptions
from timberframe.data.revisions import describe, known_migrations, read_applied
from timberframe.data.session import open_database
from timberframe.errors import CommandError
from timberframe.generator.layout import lay_out
from timberframe.migrations import alembic_config, upgrade

_PHRASE = re.compile("[a-z]+( [a-z]+)+", re.IGNORECASE)
# What reads the database, or belongs to the connection; all else is the migrations' own.
_READS = re.compile(r"\s*(SELECT|PRAGMA|SHOW|BEGIN|SET LOCAL)\b", re.IGNORECASE)
_REVISION = re.compile(r"\balembic_version\b.*?'(\w+)'", re.IGNORECASE | re.DOTALL)

UNSEEN = "Not compared: CHECK constraints, triggers, full-text search. Add changes of them yourself"


class Written(NamedTuple):
    file: Path
    warnings: list[str]


def write_migration(options: DatabaseOptions, message: str) -> Written | None:
    """Write a migration from the database to the models; None if they are alike.

    Raise `CommandError` if the database is not at the newest migration, or if it cannot be written.
    """
    if not _PHRASE.fullmatch(message):
        raise CommandError(f'"{message}": say what it does in two words or more, as "add weight"')
    _check_newest(options)
    config = alembic_config(options.project)
    config.attributes["options"] = options
    config.cmd_opts = argparse.Namespace(quiet=True)
    warnings: list[str] = []

    def note(context: Any, revision: Any, directives: list[Any]) -> None:
        changes = directives[0].upgrade_ops
        if changes.is_empty():
            directives.clear()
        else:
            warnings.extend(_warnings(changes.ops))

    try:
        script: Any = command.revision(
            config, message=message, autogenerate=True, process_revision_directives=note
        )
    except AlembicError as refused:
        raise CommandError(str(refused)) from refused
    if not script:
        return None
    file = Path(script.path)
    try:
        [source] = lay_out({file.name: file.read_text()}, options.project.root).values()
    except CommandError:
        file.unlink()
        raise
    file.write_text(source)
    return Written(file, warnings)


def _check_newest(options: DatabaseOptions) -> None:
    """Raise unless the database can be compared with the models."""

    async def read() -> tuple[str | None, str | None]:
        async with open_database(options) as database:
            applied = await read_applied(database)
        return applied.of_other_code, describe(applied.pending) if applied.pending else None

    unknown, pending = asyncio.run(read())
    if unknown:
        raise CommandError(unknown)
    if pending:
        name = options.project.name
        raise CommandError(f"the database lacks {pending}; first: {name} migrate")


def _warnings(changes: list[Any]) -> Iterator[str]:
    """What the comparison may have got wrong, and what would fail on a table with rows."""
    made = [each.table_name for each in changes if isinstance(each, ops.CreateTableOp)]
    dropped = [each.table_name for each in changes if isinstance(each, ops.DropTableOp)]
    if made and dropped:
        yield (
            f"the table {dropped[0]} is dropped and {made[0]} created: if it was renamed,"
            " write rename_table_v1 instead, or its rows are lost"
        )
    for changed in changes:
        if isinstance(changed, ops.ModifyTableOps):
            yield from _warnings_of_table(changed.table_name, changed.ops)


def _warnings_of_table(table: str, changes: list[Any]) -> Iterator[str]:
    added = [each.column for each in changes if isinstance(each, ops.AddColumnOp)]
    dropped = [each.column_name for each in changes if isinstance(each, ops.DropColumnOp)]
    if added and dropped:
        yield (
            f"{table}: {dropped[0]} is dropped and {added[0].name} added: if it was renamed,"
            " write op.alter_column(…, new_column_name=…), or its values are lost"
        )
    for column in added:
        if not (column.nullable or column.server_default is not None):
            yield (
                f"{table}: {column.name} is NOT NULL without a server_default:"
                " it cannot be added to a table with rows"
            )
    for change in changes:
        if isinstance(change, ops.AlterColumnOp) and change.modify_nullable is False:
            yield f"{table}: {change.column_name} becomes NOT NULL: first fill the rows without one"


class _Pretended(Exception):
    pass


def pretend(options: DatabaseOptions) -> list[str]:
    """The SQL of the migrations that the database lacks, under a comment with each one's name.

    They run in a transaction that is rolled back, because a migration may look at the database to
    decide what to do. So they take the same locks, for the same time.
    """
    known = known_migrations(options.project.migrations)
    lines: list[str] = []
    statements: list[str] = []

    def note(
        connection: Connection, cursor: Any, statement: str, values: Any, context: Any, many: bool
    ) -> None:
        if _READS.match(statement):
            return
        rows = f"  -- {len(values)} rows" if many else ""
        statements.append(f"{statement.strip()};{rows}")
        if found := _REVISION.search(statement):
            lines.extend((f"-- {known.get(found[1], found[1])}", *statements, ""))
            statements.clear()

    def roll_back(connection: Connection) -> None:
        raise _Pretended

    event.listen(Engine, "before_cursor_execute", note)
    try:
        upgrade(options, then=roll_back)
    except _Pretended:
        pass
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    return lines
