"""Which other origins a browser lets in."""

import json
from typing import Annotated

import pytest
from fastapi import Depends, FastAPI, Header, Response, Security
from fastapi.security import APIKeyHeader
from pydantic import BaseModel, Field

import timberframe.app
from specimen.asgi import HOST, Answer, call
from specimen.config import settings
from specimen.crud import user_crud
from timberframe.app import EXPOSED_HEADERS
from timberframe.http.middleware import MAX_HEAD_BYTES, MAX_TARGET_BYTES
from timberframe.routes import Router
from timberframe.testing import create_app

SHOP = "https://shop.example.com"
FOREIGN = (
    *("null", "", "*", "https://evil.example", "https://shop.example.com.evil.example"),
    *("https://evilshop.example.com", "https://evil.shop.example.com", "https://example.com"),
    *("http://shop.example.com", "HTTPS://shop.example.com", "https://SHOP.example.com"),
    *("https://shop.example.com:444", "https://shop.example.com:443", "https://shop.example.com/"),
    *("https://shop.example.com, https://evil.example", "https://evil.example#" + SHOP),
    *("https://shop.example.com@evil.example", "https://shop.example.com\x00", " " + SHOP),
    *("file://", "https://shop_example.com", "https://shopxexample.com"),
)


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> FastAPI:
    monkeypatch.setattr(settings, "ALLOWED_ORIGINS", [SHOP])
    return create_app()


async def ask(app: FastAPI, origin: str, path: str = "/health") -> Answer:
    return await call(app, HOST, ("origin", origin), path=path)


async def preflight(app: FastAPI, origin: str, method: str, headers: str = "") -> Answer:
    asked = [("access-control-request-method", method)]
    if headers:
        asked.append(("access-control-request-headers", headers))
    return await call(app, HOST, ("origin", origin), *asked, method="OPTIONS")


async def test_foreign_origin_is_not_let_in(app: FastAPI) -> None:
    for origin in FOREIGN:
        for answer in (
            await ask(app, origin),
            await ask(app, origin, "/missing"),
            await preflight(app, origin, "PATCH"),
            await preflight(app, origin, "GET", "authorization"),
        ):
            assert "access-control-allow-origin" not in answer.headers, origin
            assert "Origin" in answer.headers["vary"], origin


async def test_allowed_origin_is_let_in_by_its_name(app: FastAPI) -> None:
    for path, status in (("/health", 200), ("/missing", 404), ("/api/v1/users/me", 401)):
        answer = await ask(app, SHOP, path)
        assert answer.status == status
        assert answer.headers.get_list("access-control-allow-origin") == [SHOP]
        assert answer.headers["access-control-allow-credentials"] == "true"
        assert "Origin" in answer.headers["vary"]
        exposed = answer.headers["access-control-expose-headers"].split(", ")
        assert set(EXPOSED_HEADERS) == set(exposed)


async def test_answer_without_an_origin_varies_by_it_too(app: FastAPI) -> None:
    answer = await call(app, HOST)
    assert "access-control-allow-origin" not in answer.headers
    assert "Origin" in answer.headers["vary"]


HEADERS = "authorization, content-type, idempotency-key, x-request-id"


async def test_preflight_names_what_is_allowed(app: FastAPI) -> None:
    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"):
        answer = await preflight(app, SHOP, method, HEADERS)
        assert answer.status == 200
        assert answer.headers.get_list("access-control-allow-origin") == [SHOP]
        methods = answer.headers["access-control-allow-methods"].split(", ")
        assert method in methods
        assert "*" not in methods
        allowed = answer.headers["access-control-allow-headers"].lower().split(", ")
        assert set(HEADERS.split(", ")) <= set(allowed)


class TraceHeaders(BaseModel):
    trace_id: str = "none"
    parent: str = Field("none", alias="X-Parent")


def get_tenant(x_tenant: Annotated[str, Header()]) -> str:
    return x_tenant


own = Router()


@own.get("/shelf", responses={200: {"headers": {"X-Shelf": {"schema": {"type": "string"}}}}})
async def read_shelf(
    response: Response,
    tenant: Annotated[str, Depends(get_tenant)],
    key: Annotated[str | None, Security(APIKeyHeader(name="X-API-Key"))],
    trace: Annotated[TraceHeaders, Header()],
) -> dict[str, str | None]:
    """Answer with the headers that came."""
    response.headers["X-Shelf"] = "7"
    return {"tenant": tenant, "key": key, "trace": trace.trace_id, "parent": trace.parent}


async def test_headers_that_a_route_declares_are_allowed_and_its_own_can_be_read(
    app: FastAPI,
) -> None:
    extended = timberframe.app.create_app(
        settings, accounts=user_crud, routers={settings.API_V1_PREFIX: own}
    )
    names = "x-tenant, x-api-key, trace-id, x-parent"
    assert (await preflight(extended, SHOP, "GET", names)).status == 200
    for name in names.split(", "):
        assert (await preflight(app, SHOP, "GET", name)).status == 400
    assert (await preflight(extended, SHOP, "GET", f"{names}, x-other")).status == 400

    sent = [(name, f"of {name}") for name in names.split(", ")]
    path = f"{settings.API_V1_PREFIX}/shelf"
    answer = await call(extended, HOST, ("origin", SHOP), *sent, path=path)
    assert json.loads(answer.body) == {
        "tenant": "of x-tenant",
        "key": "of x-api-key",
        "trace": "of trace-id",
        "parent": "of x-parent",
    }
    exposed = answer.headers["access-control-expose-headers"].split(", ")
    assert set(exposed) == {*EXPOSED_HEADERS, "X-Shelf"}


async def test_preflight_for_anything_else_is_refused(app: FastAPI) -> None:
    refused = [
        *[
            await preflight(app, SHOP, method)
            for method in ("TRACE", "CONNECT", "BREW", "patch", "*")
        ],
        await preflight(app, SHOP, "GET", "x-http-method-override"),
        await preflight(app, FOREIGN[3], "GET"),
    ]
    for answer in refused:
        assert answer.status == 400
        assert answer.headers["content-type"] == "application/problem+json"
        assert b'"detail":"Disallowed CORS' in answer.body
        assert int(answer.headers["content-length"]) == len(answer.body)


async def test_preflight_passes_the_checks_of_every_request(
    app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [("origin", SHOP), ("access-control-request-method", "GET")]
    long = ("x", "a" * MAX_HEAD_BYTES)
    for headers, path, status in (
        ([], "/health", 400),
        ([HOST, HOST], "/health", 400),
        ([("host", "a b")], "/health", 400),
        ([HOST], "/" + "a" * MAX_TARGET_BYTES, 414),
        ([HOST, long], "/health", 431),
    ):
        answer = await call(app, *headers, *asked, method="OPTIONS", path=path)
        assert (answer.status, answer.headers["content-type"]) == (
            status,
            "application/problem+json",
        )
    monkeypatch.setattr(settings, "ALLOWED_HOSTS", ["api.example.com"])
    app = create_app()
    for host, status in (("evil.example", 400), ("api.example.com", 200)):
        assert (await call(app, ("host", host), *asked, method="OPTIONS")).status == status


async def test_script_can_read_that_its_request_is_refused(app: FastAPI) -> None:
    for headers, status in (([("host", "a b")], 400), ([HOST, ("x", "a" * MAX_HEAD_BYTES)], 431)):
        answer = await call(app, *headers, ("origin", SHOP))
        assert answer.status == status
        assert answer.headers.get_list("access-control-allow-origin") == [SHOP]


async def test_any_origin_means_without_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "ALLOWED_ORIGINS", ["*"])
    app, evil = create_app(), "https://evil.example"
    for answer in (await ask(app, evil), await preflight(app, evil, "GET")):
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in answer.headers
