"""Migrations: bring a database to the schema of this code, on either engine.

Only one process at a time migrates, in one transaction. `alembic/env.py` calls `run`.
"""

import asyncio
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from alembic import command, context
from alembic.config import Config
from alembic.operations import ops
from alembic.runtime.migration import MigrationContext, MigrationInfo
from alembic.util.exc import CommandError
from sqlalchemy import ClauseElement, Computed, Connection, DefaultClause, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import TypeDecorator

import timberframe.crud.idempotency
import timberframe.data.event_migrations
import timberframe.data.table_copies
import timberframe.jobs.models  # noqa: F401 - the frame's tables; and copies on SQLite lose nothing
from timberframe.data.base import Base
from timberframe.data.engine import create_engine
from timberframe.data.failures import message_of
from timberframe.data.options import DatabaseOptions
from timberframe.data.retries import TransactionConflict
from timberframe.data.revisions import read_applied
from timberframe.data.schema_check import NOT_MADE, find_missing, name_some, to_write
from timberframe.data.session import open_database
from timberframe.errors import CommandError as AppCommandError
from timberframe.errors import Unavailable
from timberframe.project import Project
from timberframe.search.index import is_search_object
from timberframe.settings import Settings

MIGRATION_LOCK = 7_291_640_118  # arbitrary, but the same for all that migrate one database
COPY_SECONDS = 3600  # copying a large table takes long


class CannotMigrate(AppCommandError):
    code = "cannot_migrate"


def alembic_config(project: Project) -> Config:
    return Config(toml_file=project.pyproject)


def upgrade(
    options: DatabaseOptions,
    revision: str = "head",
    *,
    then: Callable[[Connection], None] | None = None,
) -> list[str]:
    """Run the migrations that the database lacks, all or none; return their revisions.

    `then` runs in their transaction. Raise `CannotMigrate` if one fails, or if the database was
    migrated by other code.
    """
    config = alembic_config(options.project)
    applied: list[str] = []
    config.attributes |= {"applied": applied, "then": then, "options": options}  # for `run`
    try:
        command.upgrade(config, revision)
    except CommandError as refused:
        raise CannotMigrate(asyncio.run(_explain(options, refused))) from refused
    except (DBAPIError, TransactionConflict, Unavailable) as failed:
        if file := _migration_that_failed(options.project, failed):
            reason = getattr(failed, "reason", None) or message_of(failed)
            raise CannotMigrate(f"{file} failed, and nothing was changed: {reason}") from failed
        raise
    return applied


def check_result(connection: Connection) -> None:
    """Raise `CannotMigrate` unless the database, once migrated, has what the models need."""
    if missing := list(find_missing(connection)):
        attributes = context.config.attributes
        advice = to_write(missing, attributes["options"].project.name)
        if not attributes["applied"]:
            raise CannotMigrate(
                f"the database lacks {name_some(missing)}: {NOT_MADE}; to write a migration:"
                f" {advice}"
            )
        raise CannotMigrate(
            "nothing was changed: after all migrations the database would lack"
            f" {name_some(missing)}: no migration makes it, or one was edited after it was applied;"
            f" to write a migration: .venv/bin/alembic upgrade head, then {advice}"
        )


def downgrade(options: DatabaseOptions, revision: str = "base") -> None:
    config = alembic_config(options.project)
    config.attributes["options"] = options
    command.downgrade(config, revision)


def run(settings: Settings) -> None:
    """Run the migrations that Alembic was asked for; the models must be imported by now."""
    options = context.config.attributes.get("options") or DatabaseOptions.of(settings)
    # SQLite cannot reflect indexes on expressions; on PostgreSQL they are compared.
    warnings.filterwarnings("ignore", message=".*expression-based index")
    asyncio.run(_run(replace(options, statement_timeout=COPY_SECONDS)))


async def _explain(options: DatabaseOptions, refused: CommandError) -> str:
    async with open_database(options) as database:
        applied = await read_applied(database)
    return applied.of_other_code or str(refused)


def _migration_that_failed(project: Project, failed: Exception) -> str | None:
    frames = traceback.extract_tb(failed.__traceback__)
    files = (Path(frame.filename) for frame in frames)
    return next((file.name for file in files if file.parent == project.migrations), None)


async def _run(options: DatabaseOptions) -> None:
    engine = create_engine(options)
    if engine.dialect.name == "sqlite":
        event.listen(engine.sync_engine, "connect", _prepare_sqlite)
    try:
        async with engine.connect() as connection:
            await connection.run_sync(_run_migrations)
    finally:
        await engine.dispose()


def _prepare_sqlite(connection: Any, entry: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA busy_timeout = 60000")
    # Batch mode drops the table it has copied: with foreign keys on, that would delete rows that
    # refer to it.
    cursor.execute("PRAGMA foreign_keys = OFF")
    cursor.close()


def _run_migrations(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        # SQLite cannot alter most things in place: batch mode copies the table.
        render_as_batch=True,
        process_revision_directives=_alter_in_place,
        compare_server_default=True,
        transactional_ddl=True,
        render_item=_render_plain_type,
        include_object=_is_of_models,
        on_version_apply=_note_applied,
    )
    with context.begin_transaction():
        if connection.dialect.name == "postgresql":
            _take_lock(connection)
            # Events are written with each statement: a table with pending ones cannot be altered.
            connection.exec_driver_sql("SET CONSTRAINTS ALL IMMEDIATE")
        try:
            context.run_migrations()
        except CommandError as refused:
            if "not up to date" in str(refused):  # what autogenerate compares must be
                raise CommandError(f"{refused} First: alembic upgrade head") from None
            raise
        if then := context.config.attributes.get("then"):
            then(connection)


def _note_applied(ctx: MigrationContext, step: MigrationInfo, heads: Any, run_args: Any) -> None:
    """Record the revision for `upgrade`, if that started the migrations."""
    if step.is_upgrade and step.up_revision_id:
        context.config.attributes.get("applied", []).append(step.up_revision_id)


def _alter_in_place(ctx: MigrationContext, revision: Any, directives: Iterable[Any]) -> None:
    """Render no batch for a table of which SQLite can alter all that has changed."""
    for directive in directives:
        for operations in (directive.upgrade_ops, directive.downgrade_ops):
            operations.ops = [each for op in operations.ops for each in _without_batch(op)]


def _without_batch(op: ops.MigrateOperation) -> Iterator[ops.MigrateOperation]:
    if isinstance(op, ops.ModifyTableOps) and all(map(_is_in_place, op.ops)):
        yield from op.ops
    else:
        yield op


def _is_in_place(op: ops.MigrateOperation) -> bool:
    if isinstance(op, ops.AddColumnOp):
        # SQLite adds a column of which the existing rows get a constant.
        default = op.column.server_default
        is_computed = isinstance(default, Computed)
        is_expression = isinstance(default, DefaultClause) and isinstance(
            default.arg, ClauseElement
        )
        return not (is_computed or is_expression)
    return isinstance(op, (ops.DropColumnOp, ops.CreateIndexOp, ops.DropIndexOp))


def _render_plain_type(kind: str, item: Any, autogenerate: Any) -> str | Literal[False]:
    """Render our types as the database's: migrations must not depend on code that changes."""
    if kind == "type" and isinstance(item, TypeDecorator):
        return f"sa.{item.impl_instance!r}"
    return False


def _is_of_models(item: Any, name: str | None, kind: str, reflected: bool, *rest: Any) -> bool:
    """Whether autogenerate compares it: the objects of full-text search are in no model."""
    return not (reflected and is_search_object(name))


def _take_lock(connection: Connection) -> None:
    connection.exec_driver_sql("SET LOCAL lock_timeout = 0")
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
    # A waiting ALTER TABLE blocks every reader behind it: better to fail and be run again.
    connection.exec_driver_sql("SET LOCAL lock_timeout = '2s'")
