"""The checks that hold for any application, here for the specimen."""

from copy import deepcopy
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI, Request

from timberframe.data.session import Database
from timberframe.http import dependencies
from timberframe.http.idempotency import give_kept_answer
from timberframe.testing.checks import permissions
from timberframe.testing.checks.fields import *  # noqa: F403
from timberframe.testing.checks.fields import bodies, wrong_fields
from timberframe.testing.checks.migrations import *  # noqa: F403
from timberframe.testing.checks.openapi import *  # noqa: F403
from timberframe.testing.checks.openapi import arrays, unbounded, undescribed
from timberframe.testing.checks.permissions import *  # noqa: F403
from timberframe.testing.checks.permissions import (
    answers_after_losing_rights,
    served_routes,
    wrong_rows,
)
from timberframe.testing.checks.preconditions import *  # noqa: F403
from timberframe.testing.checks.resources import *  # noqa: F403
from timberframe.testing.checks.schema import *  # noqa: F403
from timberframe.testing.routes import routes


async def test_control_answers_kept_before_rights_are_checked_would_be_given(
    app: FastAPI,
    alice: httpx2.AsyncClient,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def find_at_once(request: Request) -> Any:
        keyed = await get_keyed_request(request)
        give_kept_answer(request)
        return keyed

    get_keyed_request = dependencies.get_keyed_request
    monkeypatch.setattr(dependencies, "get_keyed_request", find_at_once)
    demoted = await answers_after_losing_rights(app, {"is_superuser": False}, alice, database)
    assert any(is_kept and expected >= 400 for expected, _, is_kept in demoted.values())


FORGOTTEN = (
    ("ProductCreate", "stock", "POST /api/v1/products/ does not take stock"),
    ("ProductUpdate", "stock", "PUT /api/v1/products/{product_id} does not take stock"),
    ("Product", "stock", "POST /api/v1/products/ does not show stock"),
    ("User", "full_name", "GET /api/v1/users/me does not show full_name"),
    ("UserUpdate", "full_name", "PUT /api/v1/users/me does not take full_name"),
)
UNKNOWN = (
    ("ProductCreate", "POST /api/v1/products/ takes colour"),
    ("ProductUpdate", "PATCH /api/v1/products/{product_id} takes colour"),
    ("Product", "POST /api/v1/products/ shows colour"),
)


def test_control_forgotten_and_stray_rows_are_noticed(app: FastAPI) -> None:
    served = served_routes(app)
    served[("GET", "/api/v1/products/dearest")] = 1
    served[("GET", "/feed")] = 1
    del served[("GET", "/api/v1/users/me")]
    assert wrong_rows(served) == [
        'the table lacks Route("GET", "/products/dearest", …): add it to `further` of its RESOURCE,'
        " or to ROUTES",
        'the table lacks Route("GET", "/feed", …, prefix=""): add it to `further` of its RESOURCE,'
        " or to ROUTES",
        'Route("GET", "/users/me", …) is not served: remove it',
    ]


def test_control_row_that_is_stated_twice_is_noticed(
    app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    twice = next(route for route in routes() if route.path == "/users/me")
    monkeypatch.setattr(permissions, "routes", lambda: (*routes(), twice))
    assert wrong_rows(served_routes(app)) == ['Route("GET", "/users/me", …) is stated twice']


async def test_control_forgotten_and_unknown_fields_are_noticed(
    app: FastAPI, admin: httpx2.AsyncClient
) -> None:
    table = await bodies()

    def wrong(document: dict[str, Any]) -> str:
        return "\n".join(
            each for route, takes in table for each in wrong_fields(document, route, takes)
        )

    for schema, field, expected in FORGOTTEN:
        document = deepcopy(app.openapi())
        del document["components"]["schemas"][schema]["properties"][field]
        assert expected in wrong(document)
    for schema, expected in UNKNOWN:
        document = deepcopy(app.openapi())
        document["components"]["schemas"][schema]["properties"]["colour"] = {"type": "string"}
        assert expected in wrong(document)


def test_control_default_of_a_wrong_type_is_noticed(app: FastAPI) -> None:
    # Here, for the reason that the check itself has.
    from openapi_spec_validator import validate
    from openapi_spec_validator.validation.exceptions import OpenAPIValidationError

    wrong = {"in": "query", "name": "q", "schema": {"type": "string", "default": None}}
    paths = {"/x": {"get": {"parameters": [wrong], "responses": {"200": {"description": "x"}}}}}
    with pytest.raises(OpenAPIValidationError):
        validate(app.openapi() | {"paths": paths})


def test_control_field_of_anything_is_noticed(app: FastAPI) -> None:
    document = deepcopy(app.openapi())
    for each in ("ProductCreate", "Product"):
        document["components"]["schemas"][each]["properties"]["colour"] = {"type": "string"}
    document["components"]["schemas"]["Product"]["properties"]["parts"] = {"type": "array"}
    assert unbounded(document) == ["create_product.colour"]
    assert undescribed(document) == [
        "Product.colour has no description",
        "Product.colour has no example",
        "Product.parts has no description",
        "Product.parts has no example",
        "ProductCreate.colour has no description",
        "ProductCreate.colour has no example",
    ]
    assert [where for where, array in arrays(document) if "items" not in array] == [
        "/components/schemas/Product/properties/parts"
    ]
