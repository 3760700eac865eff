"""Rate limiters for the tests of them."""

import asyncio
from contextlib import AbstractAsyncContextManager
from uuid import uuid4

import pytest
from limits import RateLimitItem, RateLimitItemPerHour
from pydantic import SecretStr

from specimen.config import settings
from timberframe.errors import RateLimited
from timberframe.security.rate_limit import Attempt, RateLimiter, open_rate_limiter


def per_hour(amount: int = 10) -> RateLimitItem:
    """A limit that no other test uses: they share one Valkey."""
    return RateLimitItemPerHour(amount, namespace=uuid4().hex)


def limiter_on(
    url: str | None, monkeypatch: pytest.MonkeyPatch
) -> AbstractAsyncContextManager[RateLimiter]:
    monkeypatch.setattr(settings, "REDIS_URL", SecretStr(url) if url else None)
    return open_rate_limiter(settings)


async def taken(
    limiter: RateLimiter, attempts: int, limit: RateLimitItem, key: str = "alice"
) -> int:
    """How many of so many attempts, made at once, are allowed."""
    answers = await asyncio.gather(
        *(limiter.take(limit, key) for _ in range(attempts)), return_exceptions=True
    )
    assert all(isinstance(answer, (Attempt, RateLimited)) for answer in answers), answers
    return sum(isinstance(answer, Attempt) for answer in answers)
