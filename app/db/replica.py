"""A read replica: used while it follows the primary closely, and left alone while it does not."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.core.config import settings
from app.core.errors import Unavailable
from app.db.driver import Driver, pool_is_bounded
from app.db.engine import create_engine
from app.db.retries import TransactionConflict

log = structlog.get_logger()

CHECK_SECONDS = 1.0
PATIENCE_SECONDS = 0.5  # for the look: one that hangs is left
REST_SECONDS = 5.0  # before one that failed is tried again

# All that was received is replayed, and more is being received: nothing is missing, however long
# ago the last change was. Else it is as old as the last transaction that it has.
_LAG: TextClause = text("""
    SELECT CASE
        WHEN NOT pg_is_in_recovery() THEN 0
        WHEN EXISTS (SELECT FROM pg_stat_wal_receiver)
            AND pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0
        ELSE coalesce(extract(epoch FROM now() - pg_last_xact_replay_timestamp()), 1e9)
    END
""")


class Replica(Driver):
    def __init__(self, url: str) -> None:
        self.engine = create_engine(url)
        super().__init__(self.engine)
        autocommit = self.engine.execution_options(isolation_level="AUTOCOMMIT")
        self._sessions = async_sessionmaker(autocommit, expire_on_commit=False, autoflush=False)
        self._is_close = True
        self._check_at = 0.0

    async def is_close(self) -> bool:
        """Whether what it has is no older than allowed; looked at by one request a second."""
        if time.monotonic() >= self._check_at:
            self._check_at = time.monotonic() + CHECK_SECONDS
            try:
                async with asyncio.timeout(PATIENCE_SECONDS), self.reading() as db:
                    lag = float(await db.scalar(_LAG) or 0)
            except (TimeoutError, TransactionConflict):
                self.leave()
                return False
            self._note(is_close=lag <= settings.DATABASE_REPLICA_MAX_LAG_SECONDS)
        return self._is_close

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        """For reads alone; if it fails, the request runs again, on the primary."""
        try:
            with pool_is_bounded():
                async with self._sessions() as db:
                    yield db
        except (Unavailable, TransactionConflict) as failed:
            self.leave()
            raise TransactionConflict("the replica is away") from failed

    def leave(self) -> None:
        """It failed: nobody tries it for a while."""
        self._check_at = time.monotonic() + REST_SECONDS
        self._note(is_close=False)

    def _note(self, *, is_close: bool) -> None:
        if is_close is not self._is_close:
            log.warning("replica_used_again" if is_close else "replica_left")
        self._is_close = is_close
