"""Connections: whether all processes together ask for more than the server gives."""

import structlog
from sqlalchemy import text

from app.core.config import settings
from app.core.errors import AppError, Unavailable
from app.db.session import Database

log = structlog.get_logger()

_GIVEN = text("""
    SELECT sum(CASE name WHEN 'max_connections' THEN setting::int ELSE -setting::int END)
    FROM pg_settings
    WHERE name IN ('max_connections', 'superuser_reserved_connections', 'reserved_connections')
""")


class TooManyConnections(AppError):
    code = "too_many_connections"


async def check_connection_budget(workers: int) -> None:
    """Raise `TooManyConnections` unless all workers can fill their pools.

    A server that is away is no reason not to start: requests are served once it comes.
    """
    for name in ("DATABASE_URL", "DATABASE_REPLICA_URL"):
        url = getattr(settings, name)
        if url and not url.get_secret_value().startswith("sqlite"):
            await _check(name, url.get_secret_value(), workers)


async def _check(name: str, url: str, workers: int) -> None:
    database = Database(url)
    try:
        async with database.reading() as db:
            given = int(await db.scalar(_GIVEN) or 0)
    except Unavailable:
        log.warning("connection_budget_not_checked", setting=name)
        return
    finally:
        await database.dispose()
    size = settings.DATABASE_POOL_SIZE
    if workers * size > given:
        enough = f"a DATABASE_POOL_SIZE of {given // workers}"
        if given < workers:
            enough = f"{given // size} workers"
        raise TooManyConnections(
            f"{workers} workers (WEB_CONCURRENCY, --workers) with a DATABASE_POOL_SIZE of {size}"
            f" need {workers * size} connections, and the server of {name} gives {given}:"
            f" enough for {enough}"
        )
