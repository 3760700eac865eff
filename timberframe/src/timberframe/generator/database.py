"""Whether a migration was applied to the database of the settings."""

from pathlib import Path

from sqlalchemy import URL, Connection, inspect, text

from timberframe.data.options import DatabaseOptions
from timberframe.data.session import open_database


async def is_applied(options: DatabaseOptions, revision: str) -> bool:
    async with open_database(options) as database:
        if _is_missing(database.engine.url):
            return False  # connecting would create an empty one
        async with database.engine.connect() as connection:
            return revision in await connection.run_sync(_revisions)


def _is_missing(url: URL) -> bool:
    return url.get_backend_name() == "sqlite" and not Path(url.database or "").exists()


def _revisions(connection: Connection) -> list[str]:
    if not inspect(connection).has_table("alembic_version"):
        return []
    return list(connection.scalars(text("SELECT version_num FROM alembic_version")))
