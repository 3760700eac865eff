"""One key and several processes: one effect, and nothing left behind by one that is killed."""

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator

import httpx2
import psutil
import pytest
from sqlalchemy import func, select, text
from sqlalchemy.engine import make_url

from specimen.factories import CHAIR
from specimen.models import Product
from timberframe.crud.idempotency import IdempotencyKey
from timberframe.data.session import Database
from timberframe.testing import ALICE, BOB, ServerProcess

pytestmark = pytest.mark.seconds(4)

HEADERS = ALICE.headers | {"Idempotency-Key": "8e03978e-40d5-43dd-bc93-6894a57f9324"}
PATH = "/products/"

# Half a second's work between the effect and the commit.
SLOW_INSERT = {
    "sqlite": (
        "CREATE TRIGGER slow AFTER INSERT ON products BEGIN SELECT (WITH RECURSIVE n(i) AS "
        "(SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000) SELECT max(i) FROM n); END",
        "DROP TRIGGER IF EXISTS slow",
    ),
    "postgresql": (
        "CREATE FUNCTION sleep() RETURNS trigger AS 'BEGIN PERFORM pg_sleep(0.5); RETURN NEW; END' "
        "LANGUAGE plpgsql",
        "CREATE TRIGGER slow AFTER INSERT ON products FOR EACH ROW EXECUTE FUNCTION sleep()",
        "DROP FUNCTION IF EXISTS sleep() CASCADE",
    ),
}


async def rows(database: Database) -> tuple[int, int]:
    """How many products and kept answers there are."""
    async with database.reading() as db:
        counts = [
            await db.scalar(select(func.count()).select_from(model)) or 0
            for model in (Product, IdempotencyKey)
        ]
    return counts[0], counts[1]


def client_of(server: ServerProcess) -> httpx2.AsyncClient:
    limits = httpx2.Limits(max_connections=50, max_keepalive_connections=0)
    return server.client(limits=limits)


async def test_of_fifty_at_once_one_is_done(server: ServerProcess, database: Database) -> None:
    async with client_of(server) as client:
        answers = await asyncio.gather(
            *(client.post(PATH, json=CHAIR, headers=HEADERS) for _ in range(50))
        )
        late = await client.post(PATH, json=CHAIR, headers=HEADERS)
        other_body = await client.post(PATH, json=CHAIR | {"stock": 1}, headers=HEADERS)
        other_user = await client.post(
            PATH, json=CHAIR | {"sku": "CH-2"}, headers=HEADERS | BOB.headers
        )
    done = [answer for answer in answers if answer.status_code == 201]
    refused = [answer for answer in answers if answer.status_code == 409]
    assert len(done) + len(refused) == 50
    assert {answer.content for answer in done} == {late.content}
    assert {answer.headers["location"] for answer in done} == {late.headers["location"]}
    assert ["idempotency-replayed" in answer.headers for answer in done].count(False) == 1
    assert all(answer.headers["retry-after"] == "1" for answer in refused)
    assert late.headers["idempotency-replayed"] == "true"
    assert other_body.status_code == 422
    assert other_user.status_code == 201
    assert await rows(database) == (2, 2)


async def test_without_a_key_all_fifty_are_done(server: ServerProcess, database: Database) -> None:
    """The control, with what tells them apart in the body alone."""
    async with client_of(server) as client:
        answers = await asyncio.gather(
            *(
                client.post(PATH, json=CHAIR | {"sku": f"CH-{n}"}, headers=ALICE.headers)
                for n in range(50)
            )
        )
    assert {answer.status_code for answer in answers} == {201}
    assert await rows(database) == (50, 0)


@pytest.fixture
async def slow_inserts(engine: str, database: Database) -> AsyncIterator[str]:
    """The statement that makes them fast again, which is run in the end too."""
    *make_slow, make_fast = SLOW_INSERT[engine]
    async with database.transaction() as db:
        for statement in make_slow:
            await db.execute(text(statement))
    yield make_fast
    async with database.transaction() as db:
        await db.execute(text(make_fast))


async def test_client_that_hung_up_and_retries_has_one_effect(
    server: ServerProcess, database: Database, database_url: str, slow_inserts: str
) -> None:
    """Whether the first request was still finished, or ended when its client went away."""
    async with client_of(server) as client:
        request = await request_under_way(client, database, database_url)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        answer = await retried(client)
    assert answer.status_code == 201
    assert await rows(database) == (1, 1)


async def test_killed_worker_leaves_nothing_behind(
    server: ServerProcess, database: Database, database_url: str, slow_inserts: str
) -> None:
    async with client_of(server) as client:
        request = await request_under_way(client, database, database_url)
        kill_workers(server)
        with pytest.raises(httpx2.TransportError):
            await request
        assert await rows(database) == (0, 0)
        async with database.transaction() as db:
            await db.execute(text(slow_inserts))
        answer = await retried(client)
    assert answer.status_code == 201
    assert "idempotency-replayed" not in answer.headers
    assert await rows(database) == (1, 1)


async def request_under_way(
    client: httpx2.AsyncClient, database: Database, url: str
) -> asyncio.Task[httpx2.Response]:
    request = asyncio.create_task(client.post(PATH, json=CHAIR, headers=HEADERS))
    while not await is_inserting(database, url):
        assert not request.done()
        await asyncio.sleep(0.02)
    return request


async def is_inserting(database: Database, url: str) -> bool:
    """Whether somebody is in the midst of a slow insert."""
    if database.engine.dialect.name == "postgresql":
        async with database.reading() as db:
            sleeping = (
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND wait_event = 'PgSleep'"
            )
            return bool(await db.scalar(text(sleeping)))
    with contextlib.closing(sqlite3.connect(make_url(url).database or "", timeout=0)) as other:
        try:
            other.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:  # somebody writes
            return True
    return False


def kill_workers(server: ServerProcess) -> None:
    for worker in psutil.Process(server.process.pid).children(recursive=True):
        worker.kill()


async def retried(client: httpx2.AsyncClient) -> httpx2.Response:
    """As a client does it: again while nobody answers, or the key is still in use."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx2.TransportError):
            answer = await client.post(PATH, json=CHAIR, headers=HEADERS)
            if answer.status_code not in (409, 503):
                return answer
        await asyncio.sleep(0.2)
    raise TimeoutError
