"""The limiter, in memory and on a real Valkey: what it counts, and that it forgets in time."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx2
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from specimen.config import settings
from specimen.limiters import limiter_on, per_hour, taken
from timberframe.errors import RateLimited
from timberframe.security import rate_limit
from timberframe.security.rate_limit import RateLimiter
from timberframe.testing import ALICE, create_app, lifespan, set_limits
from timberframe.testing.plugin import NOON


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine Valkey may be slower than the application would wait."""
    monkeypatch.setattr(rate_limit, "REDIS_TIMEOUT_SECONDS", 10)


@pytest.fixture(params=["memory", "valkey"])
async def limiter(
    request: pytest.FixtureRequest, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[RateLimiter]:
    url = valkey_url if request.param == "valkey" else None
    async with limiter_on(url, monkeypatch) as limiter:
        yield limiter


async def test_attempts_over_the_limit_are_refused_until_the_window_ends(
    limiter: RateLimiter,
) -> None:
    limit = per_hour()
    for _ in range(10):
        await limiter.take(limit, "alice")
    for _ in range(3):
        with pytest.raises(RateLimited) as refused:
            await limiter.take(limit, "alice")
        assert 3500 < int(refused.value.headers["Retry-After"]) <= 3600


async def test_keys_and_limits_are_counted_apart(limiter: RateLimiter) -> None:
    limit = per_hour()
    assert await taken(limiter, 15, limit) == 10
    assert await taken(limiter, 15, limit, key="bob") == 10
    assert await taken(limiter, 15, per_hour()) == 10


@pytest.mark.parametrize("attempts", [50, 300])
async def test_of_many_attempts_at_once_no_more_pass_than_are_allowed(
    limiter: RateLimiter, attempts: int
) -> None:
    assert await taken(limiter, attempts, per_hour()) == 10


async def test_attempt_given_back_may_be_made_again(limiter: RateLimiter) -> None:
    limit = per_hour()
    for _ in range(30):
        await limiter.give_back(await limiter.take(limit, "alice"))
    assert await taken(limiter, 15, limit) == 10


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = NOON
        monkeypatch.setattr(rate_limit, "clock", lambda: self.now)


@pytest.fixture
def hour(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock at the beginning of an hour, which goes on when it is told to."""
    return Clock(monkeypatch)


async def test_window_ends_whatever_was_refused_or_given_back_in_it(
    limiter: RateLimiter, hour: Clock
) -> None:
    full, given_back = per_hour(), per_hour()
    assert await taken(limiter, 15, full) == 10
    for _ in range(5):
        await limiter.give_back(await limiter.take(given_back, "alice"))
    hour.now += 3599
    assert await taken(limiter, 5, full) == 0
    assert await taken(limiter, 15, given_back) == 10
    hour.now += 1
    assert await taken(limiter, 15, full) == 10
    assert await taken(limiter, 15, given_back) == 10


async def test_attempts_given_back_in_the_next_window_make_no_room_in_it(
    limiter: RateLimiter, hour: Clock
) -> None:
    limit = per_hour()
    attempts = [await limiter.take(limit, "alice") for _ in range(9)]
    hour.now += 3600
    for attempt in attempts:
        await limiter.give_back(attempt)
    assert await taken(limiter, 30, limit) == 10


async def test_control_with_one_counter_for_all_windows_they_would(
    limiter: RateLimiter, hour: Clock
) -> None:
    limit = per_hour()
    attempts = [await limiter.take(limit, "alice") for _ in range(9)]
    hour.now += 3600
    current = await limiter.take(limit, "alice")
    await limiter.give_back(current)
    for attempt in attempts:
        await limiter.give_back(replace(attempt, counter=current.counter))
    assert await taken(limiter, 30, limit) == 19


async def test_two_processes_share_one_count_on_valkey(
    valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = per_hour()
    async with (
        limiter_on(valkey_url, monkeypatch) as one,
        limiter_on(valkey_url, monkeypatch) as other,
    ):
        allowed = await asyncio.gather(taken(one, 40, limit), taken(other, 40, limit))
        assert sum(allowed) == 10


async def test_two_processes_count_apart_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = per_hour()
    async with limiter_on(None, monkeypatch) as one, limiter_on(None, monkeypatch) as other:
        assert await taken(one, 40, limit) + await taken(other, 40, limit) == 20


async def test_every_counter_on_valkey_has_an_end(
    valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = per_hour()
    async with limiter_on(valkey_url, monkeypatch) as limiter, Redis.from_url(valkey_url) as redis:
        await taken(limiter, 15, limit)
        attempt = await limiter.take(limit, "bob")
        await limiter.give_back(attempt)
        await limiter.give_back(replace(attempt, counter=f"{attempt.counter}/never-taken"))
        keys = await redis.keys(f"*{limit.namespace}*")
        assert len(keys) == 3
        for key in keys:
            assert 0 < await redis.ttl(key) <= 3600


async def test_sign_ins_over_several_processes_share_one_limit_that_names_nobody(
    valkey_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = per_hour(3)  # more than are made in one process, and less than in both
    monkeypatch.setattr(settings, "REDIS_URL", SecretStr(valkey_url))
    url = "http://testserver/api/v1/auth/login"
    apps = [create_app(), create_app()]
    for app in apps:
        set_limits(app, monkeypatch, per_account=limit, per_address=per_hour(1000))
    clients = [httpx2.AsyncClient(transport=httpx2.ASGITransport(app)) for app in apps]
    async with lifespan(apps[0]), lifespan(apps[1]), Redis.from_url(valkey_url) as redis:
        for logins in ([ALICE.email, ALICE.name], ["nobody@example.com", "Nobody@Example.com"]):
            answers = await asyncio.gather(
                *(
                    client.post(url, data={"username": login, "password": "Canary-Pass-1"})
                    for login in logins
                    for client in clients
                )
            )
            assert [answer.status_code for answer in answers] == [401] * 4
        for client in clients:
            right = {"username": ALICE.name, "password": ALICE.password}
            assert (await client.post(url, data=right)).status_code == 401
        held = await redis.keys(f"*{limit.namespace}*")
        assert len(held) == 2
        for secret in ("alice", "nobody", "example.com", "canary"):
            assert secret not in str(held).lower()
