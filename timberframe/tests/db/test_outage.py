"""The database goes away: probes say so, requests are refused, and all recovers by itself."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx2
import pytest
from pydantic import SecretStr
from sqlalchemy import literal, select, text, update

from specimen.config import settings
from specimen.crud import product_crud
from specimen.main import app
from specimen.models import User
from specimen.schemas import ProductCreate
from timberframe.crud import Principal
from timberframe.data.session import Database, open_database
from timberframe.errors import Unavailable
from timberframe.testing import ALICE, client_of, database_options, lifespan
from timberframe.testing.proxy import proxied

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


# What a server that stops sends to idle connections, some moments before it closes them.
FAREWELL = b"SFATAL\0VFATAL\0C57P01\0Mterminating connection due to administrator command\0\0"


async def by_driver(database: Database) -> None:
    rows = await database.fetch("one", lambda: select(literal(1)), {})
    assert rows[0][0] == 1


async def by_reading(database: Database) -> None:
    async with database.reading() as db:
        assert await db.scalar(select(literal(1))) == 1


async def by_transaction(database: Database) -> None:
    async with database.transaction() as db:
        assert await db.scalar(select(literal(1))) == 1


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
async def test_connection_that_the_server_is_about_to_close_is_dropped(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is still open, so it is taken from the pool, but the driver can no longer use it."""
    async with proxied(settings.DATABASE_URL.get_secret_value()) as (proxy_url, proxy):
        monkeypatch.setattr(settings, "DATABASE_URL", SecretStr(proxy_url))
        async with open_database(database_options()) as database:
            for ask in (by_driver, by_reading, by_transaction):
                await ask(database)
                length = (len(FAREWELL) + 4).to_bytes(4, "big")
                await proxy.send_to_clients(b"E" + length + FAREWELL)
                with pytest.raises(Unavailable):
                    await ask(database)
                await ask(database)


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
async def test_server_that_takes_no_writes_since_a_failover_is_an_outage(
    database: Database,
) -> None:
    """Its connections are dropped: the name may lead to the new primary by then."""

    async def switch(change: str) -> None:
        async with database.autocommit() as db:
            name = await db.scalar(text("SELECT current_database()"))
            await db.execute(text(f'ALTER DATABASE "{name}" {change}'))

    async def write(database: Database) -> None:
        async with database.transaction() as db:
            await db.execute(update(User).values(full_name="Alice"))

    async def write_one_statement(database: Database) -> None:
        alice = Principal(ALICE.id, is_superuser=False)
        body = ProductCreate.model_validate({"sku": "A", "name": "A", "price": "1.00"})
        await product_crud.create(database, obj_in=body, viewer=alice, owner_id=ALICE.id)

    await switch("SET default_transaction_read_only = on")  # for connections to come
    async with open_database(database_options()) as failed_over:
        for attempt in (write, write_one_statement):
            with pytest.raises(Unavailable):
                await attempt(failed_over)
        await by_reading(failed_over)
        await switch("RESET default_transaction_read_only")
        with pytest.raises(Unavailable):
            await write(failed_over)
        for attempt in (write, write_one_statement):
            await attempt(failed_over)


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
