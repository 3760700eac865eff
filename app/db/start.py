"""What `serve` checks before it starts: the database's schema and the number of connections."""

import structlog

from app.core.errors import Unavailable
from app.db.budget import check_connection_budget
from app.db.revisions import describe, read_applied
from app.db.schema_check import check_schema
from app.db.session import Database, open_database

log = structlog.get_logger()


async def check_database(workers: int) -> None:
    """Log what is wrong with the database; raise `SchemaIncomplete` if it lacks what its migrations
    made, and `TooManyConnections` if the pools do not fit.

    A server that is away, or is migrated later, is no reason not to start: until then
    `/health/ready` answers 503.
    """
    async with open_database() as database:
        try:
            if await _is_of_this_code(database):
                await check_schema(database)
        except Unavailable as away:
            log.warning("database_not_checked", reason=away.reason or away.detail)
            return
    await check_connection_budget(workers)


async def _is_of_this_code(database: Database) -> bool:
    applied = await read_applied(database)
    if applied.pending:
        lacks = f"the database lacks {describe(applied.pending)}"
        log.warning("migration_pending", detail=f"{lacks}: run myapi migrate, or serve --migrate")
    if applied.of_other_code:
        log.warning("migration_unknown", detail=applied.of_other_code)
    return not (applied.pending or applied.of_other_code)
