"""Which migrations this code has, and which of them a database lacks."""

import ast
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import inspect, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from timberframe.data.session import Database
from timberframe.errors import Unavailable

_SHOWN = 3
_APPLIED = text("SELECT version_num FROM alembic_version")


class Migration:
    """The metadata in a migration's file.

    Parsed from its source: importing Alembic would cost each worker 7 MB and a tenth of a second.
    """

    def __init__(self, path: Path) -> None:
        module = ast.parse(path.read_text())
        values = dict(_assigned(module))
        self.path = path
        self.docstring = ast.get_docstring(module) or ""
        self.revision: str = values["revision"]
        down: str | Sequence[str] | None = values["down_revision"]
        # More than one if it merges branches.
        self.down_revisions = (down,) if isinstance(down, str) else tuple(down or ())

    def __str__(self) -> str:
        name, _, _ = self.docstring.partition("\n")
        return f"{self.revision} ({name.rstrip('.')})"


def _assigned(module: ast.Module) -> Iterator[tuple[str, Any]]:
    names = ("revision", "down_revision")
    for node in module.body:
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value:
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if isinstance(target, ast.Name) and target.id in names:
                yield target.id, ast.literal_eval(node.value)


class MigrationPending(Unavailable):
    """The database lacks tables or columns that this code needs."""

    code = "migration_pending"

    def __init__(self, pending: list[Migration]) -> None:
        super().__init__("The database", retry_after_seconds=5)
        self.detail = f"The database lacks {describe(pending)}"


def describe(migrations: Sequence[Migration]) -> str:
    """`2 migrations: 9c1d5e70b2a4 (add idempotency keys), …`."""
    shown = ", ".join(map(str, migrations[:_SHOWN]))
    more = f" and {len(migrations) - _SHOWN} more" if len(migrations) > _SHOWN else ""
    plural = "s" if len(migrations) > 1 else ""
    return f"{len(migrations)} migration{plural}: {shown}{more}"


class Applied(NamedTuple):
    """A database's migrations, compared with those of this code."""

    revisions: set[str]
    pending: list[Migration]
    unknown: list[str]

    @property
    def of_other_code(self) -> str | None:
        """A message about revisions that this code does not have, or None."""
        if not self.unknown:
            return None
        return (
            f"the database is at revision {', '.join(self.unknown)}, which this code does not have:"
            " newer code migrated it, or another application"
        )


async def read_applied(database: Database) -> Applied:
    """Raise `Unavailable` unless the database answers."""
    async with database.reading() as db:
        revisions = await _read_revisions(db)
    return compare(revisions, known_migrations(database.options.project.migrations))


@cache
def known_migrations(folder: Path) -> dict[str, Migration]:
    """Migrations by revision, each after those that it follows."""
    found = {m.revision: m for m in map(Migration, sorted(folder.glob("*.py")))}
    order = TopologicalSorter({m.revision: m.down_revisions for m in found.values()})
    return {revision: found[revision] for revision in order.static_order() if revision in found}


async def _read_revisions(db: AsyncSession) -> set[str]:
    try:
        return set(await db.scalars(_APPLIED))
    except DBAPIError:
        await db.rollback()  # PostgreSQL rejects all else in a failed transaction
        connection = await db.connection()
        if await connection.run_sync(lambda sync: inspect(sync).has_table("alembic_version")):
            raise
        return set()


def compare(revisions: set[str], migrations: Mapping[str, Migration]) -> Applied:
    """`revisions` holds only the newest of each branch, as the database's table does."""
    unknown = revisions - migrations.keys()
    applied: set[str] = set()
    to_visit = list(revisions - unknown)
    while to_visit:
        applied.add(revision := to_visit.pop())
        to_visit += migrations[revision].down_revisions
    # Code older than the database does not know its newest revisions, and lacks nothing.
    pending = [m for m in migrations.values() if m.revision not in applied and not unknown]
    return Applied(revisions, pending, sorted(unknown))


async def check_migrated(database: Database) -> None:
    """Raise `MigrationPending` if the database lacks a migration, `Unavailable` if it is away."""
    if pending := (await read_applied(database)).pending:
        raise MigrationPending(pending)
