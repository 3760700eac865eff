"""The index of routes finds what FastAPI would find, and nothing else."""

import re
from collections.abc import Sequence
from typing import Annotated, Any

import httpx2
import pytest
from fastapi import Body, FastAPI, Response
from fastapi.routing import iter_route_contexts
from starlette.routing import BaseRoute, Match
from starlette.types import Scope

from specimen import schemas
from specimen.main import app
from specimen.models import Product
from timberframe.errors import WrongDeclaration
from timberframe.http.routing import Route, RouteIndex
from timberframe.results import Stored
from timberframe.routes import Router

BEHIND = [route for route in app.routes if not isinstance(route, RouteIndex)]
INDEX = RouteIndex(BEHIND)
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
PATHS = {
    *("/", "/health", "/health/", "/api/v1/users/me", "/api/v1/users/me/", "/api/v1/users/mee"),
    *("/api/v1/products", "/api/v1/products//", "/api/v1/products/x", "/api/v1/products/1/"),
    *("/api/v1/products/1/x", "/api/v1/products/-1", "/api/v1/products/٣", "/api/v1/products/1.0"),
}


def found(routes: Sequence[BaseRoute], method: str, path: str) -> object:
    scope: Scope = {"type": "http", "app": app, "method": method, "path": path, "root_path": ""}
    for route in iter_route_contexts(routes):
        match, child_scope = route.matches(scope)
        if match is Match.FULL:
            return child_scope["endpoint"], child_scope["path_params"]
    return None


async def test_handler_is_not_run_on_malformed_json() -> None:
    """Even one that does without a body."""
    router, sent = Router(), []

    @router.post("/optional")
    async def handler(body: Annotated[Any, Body()] = None) -> None:
        sent.append(body)

    app = FastAPI()
    app.include_router(router)
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://testserver") as client:
        for content, status in ((b"{", 422), (b'{"a":1,"a":1}', 422), (b"", 200), (b"null", 200)):
            headers = {"Content-Type": "application/json"}
            answer = await client.post("/optional", content=content, headers=headers)
            assert answer.status_code == status, content
            if status == 422:
                assert answer.json()["detail"][0]["type"] == "json_invalid"
    assert sent == [None, None]


@pytest.fixture
def paths() -> set[str]:
    contexts = iter_route_contexts(BEHIND)
    known = {context.path_format for context in contexts if context.path_format}
    return PATHS | {re.sub("{[^}]*}", "7", path) for path in known if "{path}" not in path}


def test_index_agrees_with_the_routes_behind_it(paths: set[str]) -> None:
    indexed = 0
    for path in paths:
        for method in METHODS:
            expected = found(BEHIND, method, path)
            answer = found([INDEX], method, path)
            assert answer in (expected, None), (method, path)
            indexed += answer is not None
    assert indexed == sum(
        len(route.methods or ())
        for route in iter_route_contexts(BEHIND)
        if isinstance(route.original_route, Route)
    )
    assert indexed > 20


JSON = Stored[Product]('{"name":"A"}', version=None)


@pytest.mark.parametrize(
    ("options", "stated"),
    [
        ({"status_code": 202}, "needs status_code=200"),
        ({"response_model_exclude": {"name"}}, "response_model_exclude has no effect"),
        ({"response_model_exclude_none": True}, "response_model_exclude_none has no effect"),
    ],
)
def test_what_is_stated_and_would_not_be_obeyed_is_refused(
    options: dict[str, Any], stated: str
) -> None:
    async def read() -> Stored[Product]:
        return JSON

    with pytest.raises(WrongDeclaration, match=stated):
        Router().get("/", response_model=schemas.Product, **options)(read)


async def test_headers_and_cookies_that_a_handler_sets_are_sent() -> None:
    router = Router()

    @router.get("/", response_model=schemas.Product)
    async def read(response: Response) -> Stored[Product]:
        response.headers["x-own"] = "1"
        response.set_cookie("seen", "yes")
        return JSON

    app = FastAPI()
    app.include_router(router)
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app), base_url="http://testserver"
    ) as client:
        answer = await client.get("/")
    assert answer.json() == {"name": "A"}
    assert (answer.headers["x-own"], answer.cookies["seen"]) == ("1", "yes")
    assert answer.headers.get_list("content-type") == ["application/json"]
