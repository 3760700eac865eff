"""Reads that are run directly answer as FastAPI would."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest
from fastapi.routing import iter_route_contexts
from starlette.routing import Match

from app.api.direct import direct_app
from app.api.routing import RouteIndex, StrictRoute
from app.crud.policy import Principal
from app.dependencies import get_database, get_optional_user
from app.main import app
from tests.conftest import ALICE, BOB

INDEX = app.routes[0]
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
        if isinstance(route.original_route, StrictRoute) and direct_app(route)
    }
    for path in ("products/", "products/{product_id}", "users/", "users/{user_id}", "users/me"):
        assert f"/api/v1/{path}" in direct


@pytest.mark.parametrize("headers", HEADERS)
async def test_answer_is_the_same(
    client: httpx2.AsyncClient, alice: httpx2.AsyncClient, headers: dict[str, str]
) -> None:
    for number in (1, 2):
        product = {"sku": f"C-{number}", "name": "Chair", "price": "19.99"}
        created = await alice.post("/products/", json=product | {"is_active": number == 1})
        assert created.status_code == 201
    for path in READS:
        answers = [await client.get(path, headers=headers)]
        with overridden(get_database):
            answers.append(await client.get(path, headers=headers))
        for answer in answers:
            answer.headers.pop("x-request-id")
        direct, by_fastapi = [
            (each.status_code, each.headers, each.text.partition(',"request_id"')[0])
            for each in answers
        ]
        assert direct == by_fastapi, path


async def test_overridden_dependency_is_called(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/users/me")).status_code == 401
    with overridden(get_database):
        app.dependency_overrides[get_optional_user] = lambda: Principal(BOB.id, is_superuser=False)
        assert (await client.get("/users/me")).json()["id"] == BOB.id


def test_traced_request_goes_through_each_step_of_fastapi() -> None:
    assert isinstance(INDEX, RouteIndex)
    scope = {"type": "http", "app": app, "method": "GET", "path": "/api/v1/users/me"}
    assert INDEX.matches(scope)[0] is Match.FULL
    assert INDEX.matches(scope | {"fastapi.telemetry": None})[0] is Match.NONE
