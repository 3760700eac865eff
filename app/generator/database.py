"""Whether a migration was applied to the database of the settings."""

from pathlib import Path

from sqlalchemy import URL, Connection, inspect, text

from app.db.session import open_database


async def is_applied(revision: str) -> bool:
    async with open_database() as database:
        if _is_missing(database.engine.url):
            return False  # to look would make an empty one
        async with database.engine.connect() as connection:
            return revision in await connection.run_sync(_revisions)


def _is_missing(url: URL) -> bool:
    return url.get_backend_name() == "sqlite" and not Path(url.database or "").exists()


def _revisions(connection: Connection) -> list[str]:
    if not inspect(connection).has_table("alembic_version"):
        return []
    return list(connection.scalars(text("SELECT version_num FROM alembic_version")))
