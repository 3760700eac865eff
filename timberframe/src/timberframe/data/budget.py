"""Check that the connection pools of all workers fit the server's connection limit."""

import structlog
from sqlalchemy import text

from timberframe.data.options import DatabaseOptions
from timberframe.data.session import Database
from timberframe.errors import CommandError, Unavailable

log = structlog.get_logger()

_AVAILABLE = text("""
    SELECT sum(CASE name WHEN 'max_connections' THEN setting::int ELSE -setting::int END)
    FROM pg_settings
    WHERE name IN ('max_connections', 'superuser_reserved_connections', 'reserved_connections')
""")


class TooManyConnections(CommandError):
    code = "too_many_connections"


async def check_connection_budget(options: DatabaseOptions, workers: int) -> None:
    """Raise `TooManyConnections` unless all workers can fill their pools.

    A server that is down does not prevent the start: requests are served once it is up.
    """
    for name, url in options.urls.items():
        if not url.startswith("sqlite"):
            await _check(name, options.at(url), workers)


async def _check(name: str, options: DatabaseOptions, workers: int) -> None:
    database = Database(options)
    try:
        async with database.reading() as db:
            available = int(await db.scalar(_AVAILABLE) or 0)
    except Unavailable:
        log.warning("connection_budget_not_checked", setting=name)
        return
    finally:
        await database.dispose()
    size = options.pool_size
    if workers * size > available:
        enough = f"a DATABASE_POOL_SIZE of {available // workers}"
        if available < workers:
            enough = f"{available // size} workers"
        raise TooManyConnections(
            f"{workers} workers (WEB_CONCURRENCY, --workers) with a DATABASE_POOL_SIZE of {size}"
            f" need {workers * size} connections, and the server of {name} allows {available}:"
            f" enough for {enough}"
        )
