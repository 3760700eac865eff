"""Runs the migrations: one process at a time, in one transaction, on either engine."""

import asyncio
import warnings
from typing import Any, Literal

from alembic.runtime.migration import MigrationContext, MigrationInfo
from sqlalchemy import Connection, event
from sqlalchemy.types import TypeDecorator

import app.db.table_copies  # so that a table that is copied on SQLite loses nothing
import app.models  # noqa: F401 - so that Base.metadata knows all tables
from alembic import context
from app.core.config import settings
from app.db.base import Base
from app.db.engine import create_engine
from app.db.search_index import is_search_object

MIGRATION_LOCK = 7_291_640_118  # any number, the same for all that migrate this database

# SQLite does not tell what an index on an expression is; on PostgreSQL they are compared.
warnings.filterwarnings("ignore", message=".*expression-based index")


async def main() -> None:
    # Copying a large table takes its time.
    engine = create_engine(settings.DATABASE_URL.get_secret_value(), statement_timeout_seconds=3600)
    if engine.dialect.name == "sqlite":
        event.listen(engine.sync_engine, "connect", prepare_sqlite)
    try:
        async with engine.connect() as connection:
            await connection.run_sync(run_migrations)
    finally:
        await engine.dispose()


def prepare_sqlite(connection: Any, entry: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA busy_timeout = 60000")
    # Batch mode drops the table it has copied: with foreign keys on, rows would go with it.
    cursor.execute("PRAGMA foreign_keys = OFF")
    cursor.close()


def run_migrations(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        # SQLite cannot alter most things in place: batch mode copies the table.
        render_as_batch=True,
        compare_server_default=True,
        transactional_ddl=True,
        render_item=render_plain_type,
        include_object=is_of_models,
        on_version_apply=note_applied,
    )
    with context.begin_transaction():
        if connection.dialect.name == "postgresql":
            take_turns(connection)
        context.run_migrations()
        if then := context.config.attributes.get("then"):
            then(connection)


def note_applied(ctx: MigrationContext, step: MigrationInfo, heads: Any, run_args: Any) -> None:
    """For whoever started the migrations from code: see app.db.migrations.upgrade."""
    if step.is_upgrade and step.up_revision_id:
        context.config.attributes.get("applied", []).append(step.up_revision_id)


def render_plain_type(kind: str, item: Any, autogenerate: Any) -> str | Literal[False]:
    """Name the database's type for ours, so that migrations do not depend on code that changes."""
    if kind == "type" and isinstance(item, TypeDecorator):
        return f"sa.{item.impl_instance!r}"
    return False


def is_of_models(item: Any, name: str | None, kind: str, reflected: bool, *rest: Any) -> bool:
    """Whether autogenerate compares it: what the full-text search keeps is in no model."""
    return not (reflected and is_search_object(name))


def take_turns(connection: Connection) -> None:
    connection.exec_driver_sql("SET LOCAL lock_timeout = 0")
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
    # A waiting ALTER TABLE blocks every reader behind it: rather fail and be run again.
    connection.exec_driver_sql("SET LOCAL lock_timeout = '2s'")


asyncio.run(main())
