"""Bringing a database to the schema of this code."""

import asyncio
import traceback
from collections.abc import Callable
from pathlib import Path

from alembic.config import Config
from alembic.util.exc import CommandError
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from alembic import command
from app.core.errors import AppError, Unavailable
from app.db.failures import words_of
from app.db.retries import TransactionConflict
from app.db.revisions import VERSIONS, read_applied
from app.db.schema_check import find_missing, name_some
from app.db.session import open_database

ROOT = Path(__file__).parents[2]


class CannotMigrate(AppError):
    code = "cannot_migrate"


def alembic_config() -> Config:
    return Config(toml_file=ROOT / "pyproject.toml")


def upgrade(
    revision: str = "head", *, then: Callable[[Connection], None] | None = None
) -> list[str]:
    """Run the migrations that the database lacks, all or none; return their revisions.

    `then` runs in their transaction. Raise `CannotMigrate` if one fails, or if the database was
    migrated by other code.
    """
    config = alembic_config()
    applied: list[str] = []
    config.attributes |= {"applied": applied, "then": then}  # for alembic/env.py
    try:
        command.upgrade(config, revision)
    except CommandError as refused:
        raise CannotMigrate(asyncio.run(_explain(refused))) from refused
    except (DBAPIError, TransactionConflict, Unavailable) as failed:
        if file := _migration_that_failed(failed):
            reason = getattr(failed, "reason", None) or words_of(failed)
            raise CannotMigrate(f"{file} failed, and nothing was changed: {reason}") from failed
        raise
    return applied


def check_result(connection: Connection) -> None:
    """Raise `CannotMigrate` unless the database has what the models need, now that it migrated."""
    if missing := list(find_missing(connection)):
        raise CannotMigrate(
            "nothing was changed: after all migrations the database would lack"
            f" {name_some(missing)}; a migration is not written yet, or was edited after this"
            " database had it"
        )


def downgrade(revision: str = "base") -> None:
    command.downgrade(alembic_config(), revision)


async def _explain(refused: CommandError) -> str:
    async with open_database() as database:
        applied = await read_applied(database)
    return applied.of_other_code or str(refused)


def _migration_that_failed(failed: Exception) -> str | None:
    frames = traceback.extract_tb(failed.__traceback__)
    files = (Path(frame.filename) for frame in frames)
    return next((file.name for file in files if file.parent == VERSIONS), None)
