"""The checks that hold for any application, here for the specimen."""

from copy import deepcopy
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI, Request

from timberframe.data.session import Database
from timberframe.http import dependencies
from timberframe.http.idempotency import give_kept_answer
from timberframe.testing.checks.fields import *  # noqa: F403
from timberframe.testing.checks.fields import bodies, wrong_fields
from timberframe.testing.checks.migrations import *  # noqa: F403
from timberframe.testing.checks.permissions import *  # noqa: F403
from timberframe.testing.checks.permissions import answers_after_losing_rights
from timberframe.testing.checks.preconditions import *  # noqa: F403
from timberframe.testing.checks.schema import *  # noqa: F403


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


@pytest.mark.parametrize(
    ("schema", "field", "where"),
    [
        ("ProductCreate", "stock", "POST /api/v1/products/ does not take stock"),
        ("ProductUpdate", "stock", "PUT /api/v1/products/{product_id} does not take stock"),
        ("Product", "stock", "POST /api/v1/products/ does not show stock"),
        ("User", "full_name", "GET /api/v1/users/me does not show full_name"),
        ("UserUpdate", "full_name", "PUT /api/v1/users/me does not take full_name"),
    ],
)
async def test_control_forgotten_field_is_noticed(
    app: FastAPI, admin: httpx2.AsyncClient, schema: str, field: str, where: str
) -> None:
    document = deepcopy(app.openapi())
    del document["components"]["schemas"][schema]["properties"][field]
    wrong = [e for route, takes in await bodies() for e in wrong_fields(document, route, takes)]
    assert [each for each in wrong if each.startswith(f"{where}:")], wrong


@pytest.mark.parametrize(
    ("schema", "where"),
    [
        ("ProductCreate", "POST /api/v1/products/ takes colour"),
        ("ProductUpdate", "PATCH /api/v1/products/{product_id} takes colour"),
        ("Product", "POST /api/v1/products/ shows colour"),
    ],
)
async def test_control_field_that_the_table_does_not_name_is_noticed(
    app: FastAPI, admin: httpx2.AsyncClient, schema: str, where: str
) -> None:
    document = deepcopy(app.openapi())
    document["components"]["schemas"][schema]["properties"]["colour"] = {"type": "string"}
    wrong = [e for route, takes in await bodies() for e in wrong_fields(document, route, takes)]
    assert [each for each in wrong if each.startswith(where)], wrong
