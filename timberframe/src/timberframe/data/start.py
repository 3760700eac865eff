"""What `serve` checks before it starts: the database's schema and the number of connections."""

import structlog

from timberframe.data.budget import check_connection_budget
from timberframe.data.options import DatabaseOptions
from timberframe.data.revisions import describe, read_applied
from timberframe.data.schema_check import check_schema
from timberframe.data.session import Database, open_database
from timberframe.errors import Unavailable

log = structlog.get_logger()


async def check_database(options: DatabaseOptions, workers: int) -> None:
    """Log what is wrong with the database, and raise for what prevents the start.

    Raise `SchemaIncomplete` if something that its migrations made is missing, and
    `TooManyConnections` if the pools do not fit. A server that is down or not migrated yet does not
    prevent the start: until then `/health/ready` answers 503.
    """
    async with open_database(options) as database:
        try:
            if await _is_of_this_code(database):
                await check_schema(database)
        except Unavailable as away:
            log.warning("database_not_checked", reason=away.reason or away.detail)
            return
    await check_connection_budget(options, workers)


async def _is_of_this_code(database: Database) -> bool:
    applied = await read_applied(database)
    if applied.pending:
        name = database.options.project.name
        lacks = f"the database lacks {describe(applied.pending)}"
        log.warning("migration_pending", detail=f"{lacks}: run {name} migrate, or serve --migrate")
    if applied.of_other_code:
        log.warning("migration_unknown", detail=applied.of_other_code)
    return not (applied.pending or applied.of_other_code)
