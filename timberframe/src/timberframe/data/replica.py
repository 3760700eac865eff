"""A read replica: used while it follows the primary closely, avoided while it does not."""

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import structlog
from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import async_sessionmaker

from timberframe.data.driver import Driver, pool_is_bounded
from timberframe.data.engine import create_engine
from timberframe.data.options import DatabaseOptions
from timberframe.data.retries import TransactionConflict
from timberframe.data.unit_of_work import ReadSession
from timberframe.errors import Unavailable

log = structlog.get_logger()

CHECK_SECONDS = 1.0
CHECK_TIMEOUT_SECONDS = 0.5  # for a check: a replica that hangs counts as down
RETRY_SECONDS = 5.0  # before a replica that failed is tried again

MAX_SAMPLES = 10_000

# The primary's WAL position, in bytes.
WRITTEN: TextClause = text("""
    SELECT CASE
        WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn()
    END - '0/0'::pg_lsn
""")
# The replica's replay position, and how long ago its last transaction was committed. Its receive
# position says nothing: a link that hangs looks like a primary that has nothing to send.
_REPLAYED: TextClause = text("""
    SELECT
        CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() - '0/0'::pg_lsn END,
        coalesce(extract(epoch FROM now() - pg_last_xact_replay_timestamp()), 'infinity'::float8)
""")


class Replica(Driver):
    """The driver of the replica; `read_written` runs `WRITTEN` on the primary."""

    def __init__(
        self, options: DatabaseOptions, read_written: Callable[[], Awaitable[int]]
    ) -> None:
        self._read_written = read_written
        # Times with the primary's WAL position then, as far as the replica has not replayed it.
        self._samples: deque[tuple[float, int]] = deque(maxlen=MAX_SAMPLES)
        self._complete_at = -math.inf  # the replica has all that was written by then
        self.engine = create_engine(options)
        super().__init__(self.engine, options)
        self._max_lag = options.replica_max_lag
        autocommit = self.engine.execution_options(isolation_level="AUTOCOMMIT")
        self._sessions = async_sessionmaker(
            autocommit, class_=ReadSession, expire_on_commit=False, autoflush=False
        )
        self._is_fresh = True
        self._check_at = 0.0

    async def is_fresh(self) -> bool:
        """Whether the replica lags no more than allowed; one request per second checks it."""
        if time.monotonic() >= self._check_at:
            self._check_at = time.monotonic() + CHECK_SECONDS
            await self._sample()
            try:
                lag = await self._lag_seconds()
            except (TimeoutError, TransactionConflict):
                self.mark_down()
                return False
            self._note(is_fresh=lag <= self._max_lag)
        return self._is_fresh

    async def _sample(self) -> None:
        """Record the primary's WAL position; while the primary is down, earlier samples must do."""
        now = time.monotonic()
        with suppress(TimeoutError, Unavailable, TransactionConflict):
            async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
                self._samples.append((now, await self._read_written()))

    async def _lag_seconds(self) -> float:
        """An upper bound of the lag, by the samples that were replayed or the last transaction."""
        async with asyncio.timeout(CHECK_TIMEOUT_SECONDS), self.reading() as db:
            replayed, last_commit_seconds = (await db.execute(_REPLAYED)).one()
        if replayed is None:
            return 0  # not a standby
        now = time.monotonic()
        last_at = self._samples[-1][0] if self._samples else None
        while self._samples and self._samples[0][1] <= replayed:
            self._complete_at = self._samples.popleft()[0]
        if self._complete_at == last_at:
            return 0
        return min(now - self._complete_at, float(last_commit_seconds))

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[ReadSession]:
        """A session for reads; a failure becomes a conflict, so the request is retried on the
        primary.
        """
        try:
            with pool_is_bounded():
                async with self._sessions() as db:
                    yield db
        except (Unavailable, TransactionConflict) as failed:
            self.mark_down()
            raise TransactionConflict("the replica is unavailable") from failed

    def mark_down(self) -> None:
        """Do not use the replica for `RETRY_SECONDS`: it failed."""
        self._check_at = time.monotonic() + RETRY_SECONDS
        self._note(is_fresh=False)

    def _note(self, *, is_fresh: bool) -> None:
        if is_fresh is not self._is_fresh:
            log.warning("replica_up" if is_fresh else "replica_down")
        self._is_fresh = is_fresh
