"""Reads from a real standby: never too old for the writer, never an error when it is away."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import httpx2
import pytest
from pydantic import SecretStr

from specimen.config import Settings, settings
from specimen.main import app
from timberframe.data import replica
from timberframe.data.session import Database
from timberframe.testing import ALICE, BOB, client_of, lifespan
from timberframe.testing.databases import prepare
from timberframe.testing.proxy import Proxy, proxied
from timberframe.testing.replication import Pair, Server, postgresql_pair


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with postgresql_pair() as pair:
        prepare(pair.primary.url)
        yield pair


@pytest.fixture
async def database(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Database]:
    urls = Settings(
        DATABASE_URL=SecretStr(pair.primary.url), DATABASE_REPLICA_URL=SecretStr(pair.standby.url)
    )
    for name in ("DATABASE_URL", "DATABASE_REPLICA_URL"):
        monkeypatch.setattr(settings, name, getattr(urls, name))
    monkeypatch.setattr(settings, "DATABASE_REPLICA_MAX_LAG_SECONDS", 3600)
    monkeypatch.setattr(replica, "CHECK_SECONDS", 0)
    monkeypatch.setattr(replica, "RETRY_SECONDS", 0)
    await execute(pair.primary, "DELETE FROM products")
    await execute(pair.primary, "UPDATE users SET last_write_at = NULL")
    await replayed(pair)
    async with lifespan(app):
        yield app.state.database
    await execute(pair.standby, "SELECT pg_wal_replay_resume()")


def allow_lag(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setattr(app.state.database.replica, "_max_lag", seconds)


async def execute(server: Server, statement: str, *values: Any) -> Any:
    connection = await asyncpg.connect(server.url)
    try:
        return await connection.fetchval(statement, *values)
    finally:
        await connection.close()


async def replayed(pair: Pair) -> None:
    """Wait until the standby has all that the primary has."""
    position = await execute(pair.primary, "SELECT pg_current_wal_lsn()::text")
    has_it = "SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn"
    for _ in range(1000):
        if await execute(pair.standby, has_it, position):
            return
        await asyncio.sleep(0.02)
    raise TimeoutError


async def pause(pair: Pair) -> None:
    await execute(pair.standby, "SELECT pg_wal_replay_pause()")


async def create(writer: httpx2.AsyncClient, sku: str) -> None:
    body = {"sku": sku, "name": "Chair", "price": 1}
    answer = await writer.post("/products/", json=body)
    assert answer.status_code == 201, answer.text


async def seen_by(reader: httpx2.AsyncClient, **params: str) -> list[str]:
    answer = await reader.get("/products/", params=params)
    assert answer.status_code == 200, answer.text
    return [item["sku"] for item in answer.json()["items"]]


@pytest.fixture
async def people(
    database: Database,
) -> AsyncIterator[tuple[httpx2.AsyncClient, httpx2.AsyncClient, httpx2.AsyncClient]]:
    async with client_of() as anybody, client_of(ALICE) as alice, client_of(BOB) as bob:
        yield anybody, alice, bob


People = tuple[httpx2.AsyncClient, httpx2.AsyncClient, httpx2.AsyncClient]


async def test_others_read_from_the_standby_and_a_writer_his_own_writes(
    people: People, pair: Pair
) -> None:
    anybody, alice, bob = people
    await pause(pair)
    await create(alice, "NEW")
    for params in ({}, {"q": "chair"}, {"sku__prefix": "NEW"}):
        assert await seen_by(alice, **params) == ["NEW"]
        assert await seen_by(anybody, **params) == await seen_by(bob, **params) == []
    await alice.post(
        "/products/import", content="sku,name,price\nFILE,A,1", headers={"Content-Type": "text/csv"}
    )
    assert await seen_by(alice) == ["NEW", "FILE"]
    await execute(pair.standby, "SELECT pg_wal_replay_resume()")
    await replayed(pair)
    assert await seen_by(anybody) == await seen_by(bob) == ["NEW", "FILE"]


async def test_control_a_write_that_is_not_noted_is_not_read(
    people: People, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, alice, _ = people

    async def forget(*_: object) -> None:
        pass

    monkeypatch.setattr("timberframe.accounts.Accounts.note_write", forget)
    await pause(pair)
    await create(alice, "NEW")
    assert await seen_by(alice) == []


async def test_rights_are_asked_of_the_primary(people: People, pair: Pair) -> None:
    _, _, bob = people
    await pause(pair)
    assert (await bob.get("/users/me")).status_code == 200
    await execute(pair.primary, "UPDATE users SET is_active = false WHERE username = 'bob'")
    assert (await bob.get("/users/me")).status_code == 401
    await execute(pair.primary, "UPDATE users SET is_active = true")


async def test_note_changes_nothing_that_is_shown(people: People, pair: Pair) -> None:
    _, alice, _ = people
    before = await alice.get("/users/me")
    await create(alice, "NEW")
    after = await alice.get("/users/me")
    assert after.json() == before.json()
    assert after.headers["etag"] == before.headers["etag"]


async def test_standby_too_far_behind_is_left_alone(
    people: People, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    anybody, alice, _ = people
    await pause(pair)
    await create(alice, "NEW")
    assert await seen_by(anybody) == []
    allow_lag(monkeypatch, 0.001)
    assert await seen_by(anybody) == ["NEW"]


@asynccontextmanager
async def linked_through_a_proxy(pair: Pair) -> AsyncIterator[Proxy]:
    """The standby gets what the primary sends through a proxy."""
    before = await execute(pair.standby, "SHOW primary_conninfo")
    async with proxied(pair.primary.url) as (_, proxy):
        await link(pair, f"host=127.0.0.1 port={proxy.port} user=postgres")
        try:
            yield proxy
        finally:
            await link(pair, before)


async def link(pair: Pair, conninfo: str) -> None:
    quoted = conninfo.replace("'", "''")
    await execute(pair.standby, f"ALTER SYSTEM SET primary_conninfo = '{quoted}'")
    await execute(pair.standby, "SELECT pg_reload_conf()")


RECEIVED_IS_REPLAYED = """
    SELECT pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn()
        AND EXISTS (SELECT FROM pg_stat_wal_receiver WHERE sender_port = $1)
"""


@pytest.mark.seconds(10)
async def test_standby_whose_link_hangs_is_left_within_the_limit(
    people: People, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    anybody, alice, _ = people
    allow_lag(monkeypatch, 2)
    async with linked_through_a_proxy(pair) as proxy:
        async with asyncio.timeout(60):
            while not await execute(pair.standby, RECEIVED_IS_REPLAYED, proxy.port):  # noqa: ASYNC110 - a database has no event
                await asyncio.sleep(0.05)
        assert await seen_by(anybody) == []
        proxy.hold()
        await create(alice, "NEW")
        async with asyncio.timeout(20):  # of its own, the standby notices after a minute
            while await seen_by(anybody) != ["NEW"]:  # noqa: ASYNC110 - nor has a route
                await asyncio.sleep(0.05)
        # The control: by itself the standby looks as if it had all.
        assert await execute(pair.standby, RECEIVED_IS_REPLAYED, proxy.port)
        proxy.release()
        await replayed(pair)
        await pause(pair)
        await create(alice, "NEWER")
        assert await seen_by(anybody) == ["NEW"]  # from the standby again


async def test_standby_that_follows_a_busy_primary_is_used(
    people: People, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though at each look there is something that it has not replayed."""
    anybody, alice, _ = people
    await create(alice, "NEW")
    await replayed(pair)
    assert await seen_by(anybody) == ["NEW"]
    await pause(pair)
    allow_lag(monkeypatch, 60)
    await create(alice, "NEWER")
    for _ in range(5):
        assert await seen_by(anybody) == ["NEW"]


async def test_standby_that_dies_is_not_missed(people: People, pair: Pair) -> None:
    anybody, alice, _ = people
    assert await seen_by(anybody) == []
    pair.standby.kill()
    await create(alice, "NEW")
    for _ in range(3):
        for params in ({}, {"q": "chair"}):
            assert await seen_by(anybody, **params) == ["NEW"]
    pair.standby.start()
    await replayed(pair)
    assert await seen_by(anybody) == ["NEW"]
    await pause(pair)
    await create(alice, "NEWER")
    assert await seen_by(anybody) == ["NEW"]  # from the standby again


async def test_query_that_replay_cancels_goes_to_the_primary(
    people: People, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    anybody, alice, _ = people
    await create(alice, "NEW")

    async def cancelled(*_: object) -> None:
        raise asyncpg.SerializationError("canceling statement due to conflict with recovery")

    monkeypatch.setattr(database.replica, "_execute", cancelled)
    assert await seen_by(anybody) == ["NEW"]


async def test_retry_by_its_key_notes_what_a_dead_process_did_not(
    people: People, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, alice, _ = people
    await pause(pair)
    body, headers = {"sku": "NEW", "name": "Chair", "price": 1}, {"Idempotency-Key": "k"}

    async def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("timberframe.accounts.Accounts.note_write", die)
        with pytest.raises(KeyboardInterrupt):
            await alice.post("/products/", json=body, headers=headers)
    assert await seen_by(alice) == []
    answer = await alice.post("/products/", json=body, headers=headers)
    assert answer.headers["idempotency-replayed"] == "true"
    assert await seen_by(alice) == ["NEW"]


async def test_note_that_fails_is_no_error(people: People, pair: Pair) -> None:
    _, alice, _ = people
    function = (
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE '' ; END $$"
    )
    await execute(pair.primary, function)
    on_users = "BEFORE UPDATE ON users EXECUTE FUNCTION refuse()"
    await execute(pair.primary, f"CREATE TRIGGER refuse {on_users}")
    try:
        await create(alice, "NEW")
    finally:
        await execute(pair.primary, "DROP TRIGGER refuse ON users")
        await execute(pair.primary, "DROP FUNCTION refuse")


async def test_standby_that_hangs_is_left_soon(
    people: People, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    anybody, _, _ = people
    monkeypatch.setattr(replica, "RETRY_SECONDS", 60)
    assert await seen_by(anybody) == []
    with pair.standby.frozen():
        async with asyncio.timeout(replica.CHECK_TIMEOUT_SECONDS + 5):
            for _ in range(10):
                assert await seen_by(anybody) == []


@pytest.mark.parametrize(
    "urls", [("sqlite:///a.db", "postgresql://b/c"), ("postgresql://b/c", "sqlite:///a.db")]
)
def test_replica_needs_postgresql(urls: tuple[str, str]) -> None:
    primary, other = map(SecretStr, urls)
    with pytest.raises(ValueError, match="needs PostgreSQL, here and in DATABASE_URL"):
        Settings(DATABASE_URL=primary, DATABASE_REPLICA_URL=other)
