"""Rate limits: counted in Redis for all processes, otherwise in memory."""

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from limits import RateLimitItem
from limits.aio.storage import MemoryStorage, RedisStorage

from timberframe.errors import RateLimited
from timberframe.settings import Settings

if TYPE_CHECKING:  # a tenth of a second at each start, for which only REDIS_URL is a reason
    from redis.asyncio import ConnectionPool

REDIS_CONNECTIONS = 16
REDIS_TIMEOUT_SECONDS = 0.25
REDIS_PAUSE_SECONDS = 5  # after a failure, so that a dead Redis does not slow every request

log = structlog.get_logger()
clock = time.time


@dataclass(frozen=True)
class Attempt:
    """A counted attempt; `counter` includes its window, `is_shared` says that Redis counted it."""

    counter: str
    window_seconds: int
    is_shared: bool


class RateLimiter:
    """Counts attempts in fixed windows of the clock.

    Each window has a counter of its own, so an attempt that is refunded after its window has ended
    makes no room in the next one.
    """

    def __init__(self, redis: "ConnectionPool | None" = None, *, prefix: str = "") -> None:
        """`prefix` begins the counters' names, because several projects may share one Redis."""
        self._memory = MemoryStorage()
        self._redis = _storage(redis, prefix) if redis else None
        self._turns = asyncio.Semaphore(REDIS_CONNECTIONS)
        self._pause_ends = 0.0

    async def take(self, limit: RateLimitItem, key: str) -> Attempt:
        """Count one attempt, or raise `RateLimited` when the window is full."""
        seconds = limit.get_expiry()
        window, elapsed = divmod(clock(), seconds)
        counter = limit.key_for(key, str(int(window)))
        count = await self._add_in_redis(counter, seconds, 1)
        is_shared = count is not None
        if count is None:
            count = await self._memory.incr(counter, seconds)
        if count > limit.amount:
            raise RateLimited(math.ceil(seconds - elapsed))
        return Attempt(counter, seconds, is_shared)

    async def give_back(self, attempt: Attempt) -> None:
        """Refund an attempt that turned out to be legitimate, where it was counted.

        If Redis has failed since, the attempt stays counted there.
        """
        if attempt.is_shared:
            await self._add_in_redis(attempt.counter, attempt.window_seconds, -1)
        else:
            await self._memory.incr(attempt.counter, attempt.window_seconds, -1)

    async def _add_in_redis(self, counter: str, seconds: int, amount: int) -> int | None:
        """The new count, None without Redis or while it is down."""
        if self._redis is None:
            return None
        from redis.exceptions import RedisError

        # Few at a time: a burst of new connections would look like an outage. In a real outage,
        # those that waited for their turn skip Redis.
        async with self._turns:
            if time.monotonic() < self._pause_ends:
                return None
            try:
                return await self._redis.incr(counter, seconds, amount)
            except (RedisError, OSError) as failed:
                self._pause_ends = time.monotonic() + REDIS_PAUSE_SECONDS
                log.warning("redis_unreachable", error=type(failed).__name__)
                return None


def _storage(redis: "ConnectionPool", prefix: str) -> RedisStorage:
    return RedisStorage(
        "async+redis://",
        implementation="redispy",
        key_prefix=prefix,
        connection_pool=redis,  # type: ignore[arg-type]  # taken, but not in its types
    )


@asynccontextmanager
async def open_rate_limiter(settings: Settings) -> AsyncIterator[RateLimiter]:
    """The limiter that the settings describe; closes its connections at the end."""
    if not settings.REDIS_URL:
        yield RateLimiter()
        return
    from redis.asyncio import ConnectionPool
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    redis = ConnectionPool.from_url(
        settings.REDIS_URL.get_secret_value(),
        socket_timeout=REDIS_TIMEOUT_SECONDS,
        socket_connect_timeout=REDIS_TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
    try:
        yield RateLimiter(redis, prefix=settings.project.name)
    finally:
        await redis.aclose()
