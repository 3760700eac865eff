"""How often something may be tried: counted in Redis for all processes, else in memory."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import structlog
from limits import RateLimitItem
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import FixedWindowRateLimiter
from redis.asyncio import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from app.core.config import settings
from app.core.errors import RateLimited

T = TypeVar("T")

REDIS_CONNECTIONS = 16
REDIS_TIMEOUT_SECONDS = 0.25
REDIS_PAUSE_SECONDS = 5  # after a failure, so that a dead Redis does not slow every request

log = structlog.get_logger()


class RateLimiter:
    """Counts attempts in fixed windows that begin with the first attempt."""

    def __init__(self, redis: ConnectionPool | None = None) -> None:
        self._in_memory = FixedWindowRateLimiter(MemoryStorage())
        self._in_redis = FixedWindowRateLimiter(_storage(redis)) if redis else None
        self._turns = asyncio.Semaphore(REDIS_CONNECTIONS)
        self._pause_ends = 0.0

    async def take(self, limit: RateLimitItem, key: str) -> None:
        """Count one attempt, or raise `RateLimited` when the window is full."""
        await self._counted(lambda limiter: _take(limiter, limit, key))

    async def give_back(self, limit: RateLimitItem, key: str) -> None:
        """Uncount an attempt that turned out not to be one."""
        await self._counted(
            lambda limiter: limiter.storage.incr(limit.key_for(key), limit.get_expiry(), -1)
        )

    async def _counted(self, count: Callable[[FixedWindowRateLimiter], Awaitable[T]]) -> T:
        if self._in_redis:
            # Few at a time: a rush of new connections would look like an outage, and in a real
            # one those who waited do not try again.
            async with self._turns:
                if time.monotonic() >= self._pause_ends:
                    try:
                        return await count(self._in_redis)
                    except (RedisError, OSError) as failed:
                        self._pause_ends = time.monotonic() + REDIS_PAUSE_SECONDS
                        log.warning("redis_unreachable", error=type(failed).__name__)
        return await count(self._in_memory)


async def _take(limiter: FixedWindowRateLimiter, limit: RateLimitItem, key: str) -> None:
    if not await limiter.hit(limit, key):
        window = await limiter.get_window_stats(limit, key)
        raise RateLimited(max(1, math.ceil(window.reset_time - time.time())))


def _storage(redis: ConnectionPool) -> RedisStorage:
    return RedisStorage(
        "async+redis://",
        implementation="redispy",
        key_prefix="myapi",
        connection_pool=redis,  # type: ignore[arg-type]  # taken, but not in its types
    )


@asynccontextmanager
async def open_rate_limiter() -> AsyncIterator[RateLimiter]:
    """The limiter of the settings; its connections are closed at the end."""
    if not settings.REDIS_URL:
        yield RateLimiter()
        return
    redis = ConnectionPool.from_url(
        settings.REDIS_URL.get_secret_value(),
        socket_timeout=REDIS_TIMEOUT_SECONDS,
        socket_connect_timeout=REDIS_TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
    try:
        yield RateLimiter(redis)
    finally:
        await redis.aclose()
