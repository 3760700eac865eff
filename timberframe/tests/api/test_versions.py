"""A second version of the API: the routers of the first, with one route of its own."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx2
import pytest
from fastapi import APIRouter, FastAPI, Response
from fastapi.routing import APIRoute
from openapi_spec_validator import validate

from specimen import models, schemas, table, webhooks
from specimen.config import settings
from specimen.crud import user_crud
from specimen.endpoints import ProductInPath, auth, files, products, router, users
from timberframe.app import create_app
from timberframe.errors import NotFound
from timberframe.results import Stored
from timberframe.routes import Router, jobs_router, problems
from timberframe.testing import ALICE, cast, client_of, lifespan, subject
from timberframe.testing import routes as rows
from timberframe.testing.checks.permissions import (
    test_every_route_answers_every_caller_as_the_table_says as test_every_caller,
)
from timberframe.testing.checks.permissions import (
    test_table_names_every_route_and_no_other as test_table,
)
from timberframe.testing.checks.preconditions import (
    test_change_of_another_state_is_refused as test_preconditions,
)

__all__ = ["test_every_caller", "test_preconditions", "test_table"]

V2 = "/api/v2"
SHELF: dict[int | str, Any] = {200: {"headers": {"X-Shelf": {"schema": {"type": "string"}}}}}

changed_products = Router()
changed_products.routes.extend(
    each for each in products.routes if isinstance(each, APIRoute) and each.name != "read_product"
)


@changed_products.get(
    "/{product_id:id}", response_model=schemas.Product, responses=problems(NotFound) | SHELF
)
async def read_product(product: ProductInPath, response: Response) -> Stored[models.Product]:
    """Read a product, and where it is."""
    response.headers["X-Shelf"] = "7"
    return product


@pytest.fixture(scope="module")
def both() -> FastAPI:
    second = APIRouter()
    second.include_router(auth, prefix="/auth", tags=["auth"])
    second.include_router(users, prefix="/users", tags=["users"])
    second.include_router(jobs_router, prefix="/jobs", tags=["jobs"])
    second.include_router(files, prefix="/products", tags=["products"])
    second.include_router(changed_products, prefix="/products", tags=["products"])
    second.include_router(webhooks.router, prefix="/webhooks", tags=["webhooks"])
    routers = {settings.API_V1_PREFIX: router, V2: second}
    return create_app(settings, accounts=user_crud, routers=routers)


@pytest.fixture
def app(
    both: FastAPI, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FastAPI]:
    """The application of the kit, whose table has a row for each route of both versions.

    What they answer is tested of the second alone: the first has that test by itself.
    """
    for module in (subject, cast):
        monkeypatch.setattr(module, "app", lambda: both)
    of_second = tuple(replace(row, prefix=V2) for row in table.ROUTES)
    stated = table.ROUTES + of_second if request.function is test_table else of_second
    monkeypatch.setattr(subject, "stated_routes", lambda: stated)
    caches = (rows._stated, rows.resources, rows.routes)
    for cache in caches:
        cache.cache_clear()
    yield both
    for cache in caches:
        cache.cache_clear()


def ids(document: dict[str, Any], prefix: str) -> list[str]:
    return [
        operation["operationId"]
        for path, operations in document["paths"].items()
        if path.startswith(prefix)
        for operation in operations.values()
    ]


def test_ids_of_the_first_version_stay_and_those_of_the_second_say_so(both: FastAPI) -> None:
    document = both.openapi()
    validate(document)
    first = ids(document, f"{settings.API_V1_PREFIX}/")
    alone = create_app(settings, accounts=user_crud, routers={settings.API_V1_PREFIX: router})
    assert first == ids(alone.openapi(), f"{settings.API_V1_PREFIX}/")
    assert {"read_product", "update_product", "patch_product", "update_user"} <= set(first)
    assert "patch_user" not in first  # no PUT has its handler
    assert sorted(ids(document, f"{V2}/")) == sorted(f"v2_{each}" for each in first)


@pytest.mark.parametrize(
    ("prefixes", "path", "expected"),
    [
        (["/api/v1", "/api/v2"], "/api/v1", "read_user_me"),
        (["/api/v1", "/internal/v1"], "/internal/v1", "internal_read_user_me"),
        (["/api/v1", "/api/v1/old-ones"], "/api/v1/old-ones", "old_ones_read_user_me"),
        (["/api/v1/new", "/api", "/v2"], "/api/v1/new", "read_user_me"),
        (["/api/v1", ""], "/api/v1", "read_user_me"),
    ],
)
def test_prefix_is_told_from_the_first(prefixes: list[str], path: str, expected: str) -> None:
    own = APIRouter()
    own.include_router(users, prefix="/users")
    routers = dict.fromkeys(prefixes, APIRouter()) | {path: own}
    app = create_app(settings, accounts=user_crud, routers=routers)
    assert app.openapi()["paths"][f"{path}/users/me"]["get"]["operationId"] == expected


async def test_changed_route_is_that_of_the_second_version_alone(alice: httpx2.AsyncClient) -> None:
    product = await rows.new_row("/products/", alice)
    path = f"/products/{product['id']}"
    async with client_of(ALICE, prefix=V2) as second:
        answers = await alice.get(path), await second.get(path)
        listed = await second.get("/products/")
    assert [answer.headers.get("X-Shelf") for answer in answers] == [None, "7"]
    assert answers[0].json() == answers[1].json() == product
    assert listed.json()["items"] == [product]


@pytest.mark.usefixtures("database_url")
@pytest.mark.parametrize("direct_reads", [True, False])
async def test_first_of_two_routes_with_one_path_is_served(
    monkeypatch: pytest.MonkeyPatch, direct_reads: bool
) -> None:
    monkeypatch.setattr(settings, "DIRECT_READS", direct_reads)
    shadowing, own = APIRouter(), Router()
    own.get("/{product_id:id}", response_model=schemas.Product)(read_product)
    shadowing.include_router(own, prefix="/products")
    shadowing.include_router(router)
    app = create_app(settings, accounts=user_crud, routers={settings.API_V1_PREFIX: shadowing})
    monkeypatch.setattr(cast, "app", lambda: app)
    async with lifespan(app), client_of(ALICE) as alice:
        chair = {"sku": "C", "name": "Chair", "price": "1"}
        product = (await alice.post("/products/", json=chair)).json()
        answer = await alice.get(f"/products/{product['id']}")
    assert answer.headers.get("X-Shelf") == "7"
