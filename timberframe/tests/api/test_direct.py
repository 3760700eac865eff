"""Reads that are run directly answer as FastAPI would."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from typing import Any

import asyncpg
import httpx2
import pytest
from fastapi.routing import iter_route_contexts
from starlette.routing import Match

from specimen.main import app
from timberframe.crud.policy import Principal
from timberframe.http.dependencies import get_database, get_optional_user
from timberframe.http.direct import direct_app
from timberframe.http.routing import Route, RouteIndex
from timberframe.testing import ALICE, BOB, ServerProcess

READS = [
    "/products/1",
    "/products/2",  # inactive
    "/products/99",
    "/products/99999999999999999999",
    "/products/?limit=1&sort=-price&price__lte=50",
    "/products/?limit=0",
    "/products/?limit=1&limit=1",
    "/products/?q=chair",
    "/products/?cursor=x",
    "/products/1/stock-movements",
    "/users/",
    "/users/1",
    "/users/me",
]
HEADERS: list[dict[str, str]] = [
    {},
    {"Authorization": "Bearer x"},
    ALICE.headers,
    BOB.headers | {"If-None-Match": '"1"'},
]


@contextmanager
def overridden(*dependencies: Callable[..., Any]) -> Iterator[None]:
    """All requests go FastAPI's way, as soon as one of its dependencies is another."""
    overrides = app.dependency_overrides
    overrides.update({each: each for each in dependencies})
    try:
        yield
    finally:
        overrides.clear()


def test_reads_of_rows_and_lists_are_run_directly() -> None:
    direct = {
        route.path_format
        for route in iter_route_contexts(app.routes)
        if isinstance(route.original_route, Route) and direct_app(route)
    }
    for path in ("products/", "products/{product_id}", "users/", "users/{user_id}", "users/me"):
        assert f"/api/v1/{path}" in direct


async def test_answer_is_the_same(client: httpx2.AsyncClient, alice: httpx2.AsyncClient) -> None:
    for number in (1, 2):
        chair = {"sku": f"C-{number}", "name": "Chair", "price": "19.99"}
        created = await alice.post("/products/", json=chair | {"is_active": number == 1})
        assert created.status_code == 201
    for headers, path in product(HEADERS, READS):
        answers = [await client.get(path, headers=headers)]
        with overridden(get_database):
            answers.append(await client.get(path, headers=headers))
        for answer in answers:
            answer.headers.pop("x-request-id")
        direct, by_fastapi = [
            (each.status_code, each.headers, each.text.partition(',"request_id"')[0])
            for each in answers
        ]
        assert direct == by_fastapi, (headers, path)


async def test_overridden_dependency_is_called(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/users/me")).status_code == 401
    with overridden(get_database):
        app.dependency_overrides[get_optional_user] = lambda: Principal(BOB.id, is_superuser=False)
        assert (await client.get("/users/me")).json()["id"] == BOB.id


def test_traced_request_goes_through_each_step_of_fastapi() -> None:
    index = RouteIndex(app.routes)
    scope = {"type": "http", "app": app, "method": "GET", "path": "/api/v1/users/me"}
    assert index.matches(scope)[0] is Match.FULL
    assert index.matches(scope | {"fastapi.telemetry": None})[0] is Match.NONE


async def waiting_reads(connection: asyncpg.Connection) -> int:
    """How many lists of products wait for the lock."""
    return int(
        await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
    )


async def wait_for_reads(connection: asyncpg.Connection, count: int, seconds: float) -> bool:
    for _ in range(int(seconds / 0.05)):
        if await waiting_reads(connection) == count:
            return True
        await asyncio.sleep(0.05)
    return False


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
async def test_read_ends_with_its_client(server: ServerProcess, database_url: str) -> None:
    """The lock stands for a query that takes long; it is held all the time."""
    locking = await asyncpg.connect(database_url)
    looking = await asyncpg.connect(database_url)  # within a transaction it would see no changes
    _, writer = await asyncio.open_connection("127.0.0.1", httpx2.URL(server.url).port)
    try:
        async with locking.transaction():
            await locking.execute("LOCK TABLE products IN ACCESS EXCLUSIVE MODE")
            writer.write(b"GET /api/v1/products/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert await wait_for_reads(looking, 1, seconds=4)
            await asyncio.sleep(0.5)
            assert await waiting_reads(looking) == 1  # the control: the client is there
            writer.close()
            # Well before the list's own time is over.
            assert await wait_for_reads(looking, 0, seconds=3)
    finally:
        writer.close()
        await locking.close()
        await looking.close()
    answer = httpx2.get(f"{server.url}/api/v1/products/")
    assert answer.status_code == 200
    assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
async def test_read_ends_with_a_body_that_is_refused(
    server: ServerProcess, database_url: str
) -> None:
    """Its client could not be seen to go, and the read would go on for nobody."""
    locking = await asyncpg.connect(database_url)
    looking = await asyncpg.connect(database_url)
    reader, writer = await asyncio.open_connection("127.0.0.1", httpx2.URL(server.url).port)
    piece = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    try:
        async with locking.transaction():
            await locking.execute("LOCK TABLE products IN ACCESS EXCLUSIVE MODE")
            head = b"GET /api/v1/products/ HTTP/1.1\r\nHost: localhost\r\n"
            writer.write(head + b"Transfer-Encoding: chunked\r\n\r\n" + piece * 15)
            assert await wait_for_reads(looking, 1, seconds=4)
            await asyncio.sleep(0.5)
            assert await waiting_reads(looking) == 1  # the control: such a body may be sent
            writer.write(piece * 3)
            assert await wait_for_reads(looking, 0, seconds=3)
        assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
    finally:
        writer.close()
        await locking.close()
        await looking.close()
    assert "Traceback" not in server.log.read_text()
