"""The database goes away: probes say so, requests are refused, and all recovers by itself."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx2
import pytest
from pydantic import SecretStr

from app.core.config import settings
from app.main import app, lifespan
from tests.conftest import client_of
from tests.proxy import proxied

Switch = Callable[[], Awaitable[None]]


@pytest.fixture
async def outage(
    engine: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Switch, Switch]]:
    """Take the database away; give it back."""
    if engine == "sqlite":
        home = Path(database_url.removeprefix("sqlite:///")).parent
        away = home.with_suffix(".away")

        async def take() -> None:
            home.rename(away)

        async def give() -> None:
            away.rename(home)

        yield take, give
        return
    async with proxied(settings.DATABASE_URL.get_secret_value()) as (proxy_url, proxy):
        monkeypatch.setattr(settings, "DATABASE_URL", SecretStr(proxy_url))
        yield proxy.cut, proxy.restore


async def test_process_that_starts_without_database_serves_once_it_comes(
    outage: tuple[Switch, Switch],
) -> None:
    take, give = outage
    await take()
    async with lifespan(app), client_of() as client:
        await sees_outage(client)
        await give()
        await sees_service(client)


# An open SQLite file stays open whatever becomes of its name.
@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
async def test_database_that_goes_away_is_found_again(outage: tuple[Switch, Switch]) -> None:
    take, give = outage
    async with lifespan(app), client_of() as client:
        for _ in range(2):
            await sees_service(client)
            await take()
            await sees_outage(client)
            await give()
        await sees_service(client)


async def sees_outage(client: httpx2.AsyncClient) -> None:
    assert (await client.get("http://testserver/health")).status_code == 200
    assert (await client.get("http://testserver/health/live")).status_code == 200
    for answer in (
        await client.get("http://testserver/health/ready"),
        await client.get("/products/"),
        await client.post(
            "/users/",
            json={"email": "c@example.com", "username": "carol", "password": "Carol-Pass-1"},
        ),
    ):
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        assert answer.json()["detail"] == "The database is not available, try again later"


async def sees_service(client: httpx2.AsyncClient) -> None:
    assert (await client.get("http://testserver/health/ready")).status_code == 200
    for _ in range(10):
        assert (await client.get("/products/")).status_code == 200
