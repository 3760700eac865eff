"""A read replica: used while it follows the primary closely, and left alone while it does not."""

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

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

MAX_SAMPLES = 10_000

# How far the log of the primary is written, in bytes.
WRITTEN: TextClause = text("""
    SELECT CASE
        WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn()
    END - '0/0'::pg_lsn
""")
# How far the replica has replayed it, and how long ago its last transaction was committed. What it
# has received says nothing: a link that hangs looks like a primary that has nothing to send.
_REPLAYED: TextClause = text("""
    SELECT
        CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() - '0/0'::pg_lsn END,
        coalesce(extract(epoch FROM now() - pg_last_xact_replay_timestamp()), 'infinity'::float8)
""")


class Replica(Driver):
    """`read_written` asks the primary for `WRITTEN`."""

    def __init__(self, url: str, read_written: Callable[[], Awaitable[int]]) -> None:
        self._read_written = read_written
        # When the primary's log was how long, as far as the replica has not replayed it.
        self._samples: deque[tuple[float, int]] = deque(maxlen=MAX_SAMPLES)
        self._complete_at = -math.inf  # it has all that the primary had then
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
            await self._sample()
            try:
                lag = await self._lag_seconds()
            except (TimeoutError, TransactionConflict):
                self.leave()
                return False
            self._note(is_close=lag <= settings.DATABASE_REPLICA_MAX_LAG_SECONDS)
        return self._is_close

    async def _sample(self) -> None:
        """Note how far the primary is; while it is away, earlier samples must do."""
        now = time.monotonic()
        with suppress(TimeoutError, Unavailable, TransactionConflict):
            async with asyncio.timeout(PATIENCE_SECONDS):
                self._samples.append((now, await self._read_written()))

    async def _lag_seconds(self) -> float:
        """No more than this: by the samples that it has replayed, or by its last transaction."""
        async with asyncio.timeout(PATIENCE_SECONDS), self.reading() as db:
            replayed, last_commit_seconds = (await db.execute(_REPLAYED)).one()
        if replayed is None:
            return 0  # it is no standby
        now = time.monotonic()
        last_at = self._samples[-1][0] if self._samples else None
        while self._samples and self._samples[0][1] <= replayed:
            self._complete_at = self._samples.popleft()[0]
        if self._complete_at == last_at:
            return 0
        return min(now - self._complete_at, float(last_commit_seconds))

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
