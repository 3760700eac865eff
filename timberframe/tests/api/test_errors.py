"""Errors over HTTP: RFC 9457 problem details of every class, which give nothing away."""

import asyncio
import re
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from fastapi.routing import iter_route_contexts
from limits import RateLimitItemPerMinute
from pydantic import SecretStr
from sqlalchemy import update
from structlog.testing import capture_logs

from specimen.config import settings
from specimen.factories import CHAIR, create
from specimen.main import app
from specimen.models import User
from timberframe.http.middleware import API_HEADERS
from timberframe.routes import DbSession
from timberframe.testing import ADMIN, ALICE, BOB, Person, create_app, lifespan, set_limits

CANARY = "c4nary"  # in every part of every request below, in no answer
SHOP = "https://shop.example.com"
LEAKS = (CANARY, "SELECT", "Traceback", "RuntimeError", ".py", "/app/", "sqlite", "asyncpg")
JSON = {"Content-Type": "application/json"}
SIGN_UP = {"email": f"{CANARY}@example.com", "username": CANARY, "password": f"{CANARY}-Aa1"}


async def chunks() -> AsyncIterator[bytes]:
    for _ in range(20):
        yield CANARY.encode() * 11_000


class Case(NamedTuple):
    status: int
    code: str
    method: str
    path: str
    person: Person | None
    options: dict[str, Any]


def case(
    status: int, code: str, method: str, path: str, person: Person | None = None, **options: Any
) -> Case:
    return Case(status, code, method, path, person, options)


WRONG = SIGN_UP | {"email": CANARY, "password": CANARY}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
LONG = CANARY.encode() * 200_000

CASES = {
    "foreign host": case(400, "bad_request", "GET", "/users/", headers={"Host": CANARY}),
    "deep": case(422, "invalid_input", "POST", "/users/", content=b"[" * 100_000, headers=JSON),
    "many fields": case(
        400, "bad_request", "POST", "/auth/login", content=f"{CANARY}&" * 21, headers=FORM
    ),
    "taken": case(400, "already_exists", "POST", "/users/", json=SIGN_UP | {"email": ALICE.email}),
    "nobody": case(401, "not_authenticated", "GET", "/users/me"),
    "bad token": case(
        *(401, "not_authenticated", "GET", "/users/me"),
        headers={"Authorization": f"Bearer {CANARY}"},
    ),
    "wrong password": case(
        *(401, "not_authenticated", "POST", "/auth/login"),
        data={"username": CANARY, "password": CANARY},
    ),
    "stranger": case(403, "not_permitted", "GET", f"/users/{ALICE.id}", BOB),
    "no such route": case(404, "not_found", "GET", f"/{CANARY}"),
    "no such file": case(404, "not_found", "GET", f"/../docs/assets/{CANARY}.js"),
    "no such user": case(404, "not_found", "GET", "/users/999", ADMIN),
    "no such product": case(404, "not_found", "GET", "/products/999"),
    "method": case(405, "method_not_allowed", "DELETE", "/users/"),
    "last superuser": case(409, "conflict", "DELETE", f"/users/{ADMIN.id}", ADMIN),
    "declared": case(413, "content_too_large", "POST", "/users/", content=LONG, headers=JSON),
    "in chunks": case(413, "content_too_large", "POST", "/users/", content=chunks, headers=JSON),
    "text": case(415, "unsupported_media_type", "POST", "/users/", content=CANARY),
    "not JSON": case(422, "invalid_input", "POST", "/users/", content=f'{{"{CANARY}', headers=JSON),
    "wrong field": case(422, "invalid_input", "POST", "/users/", json=WRONG),
    "wrong query": case(422, "invalid_input", "GET", "/products/", params={"skip": CANARY}),
    "broken": case(500, "internal_error", "GET", "/broken"),
}


@pytest.fixture
async def strict_app(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FastAPI]:
    """The application with a known host and origin, and with two routes that fail."""
    monkeypatch.setattr(settings, "ALLOWED_HOSTS", ["testserver"])
    monkeypatch.setattr(settings, "ALLOWED_ORIGINS", [SHOP])
    strict_app = create_app()

    @strict_app.get("/api/v1/broken")
    async def fail() -> None:
        raise RuntimeError("SELECT", CANARY, __file__)

    @strict_app.get("/api/v1/half")
    async def fail_halfway() -> StreamingResponse:
        async def half() -> AsyncIterator[bytes]:
            yield b"half"
            raise RuntimeError(CANARY)

        return StreamingResponse(half())

    async with lifespan(strict_app):
        yield strict_app


def browser(app: FastAPI) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app),
        base_url="http://testserver/api/v1",
        headers={"Origin": SHOP, "User-Agent": CANARY, "Referer": f"https://{CANARY}/"},
    )


def check_problem(answer: httpx2.Response, status: int, code: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    errors = problem.pop("errors", None)
    oauth = {name for name in ("error", "error_description") if problem.pop(name, None)}
    assert len(oauth) == (2 if answer.url.path.endswith("/auth/login") else 0)
    assert problem == {
        "type": "about:blank",
        "title": {413: "Content Too Large", 422: "Unprocessable Content"}.get(
            status, HTTPStatus(status).phrase
        ),
        "status": status,
        "detail": problem["detail"],
        "code": code,
        "request_id": answer.headers["x-request-id"],
    }
    assert problem["detail"]
    assert (errors is not None) == (status == 422)
    for error in errors or ():
        assert set(error) == {"loc", "msg", "type"}
    for leak in LEAKS:
        assert leak not in answer.text


def check_headers(answer: httpx2.Response) -> None:
    for name, value in API_HEADERS.items():
        assert answer.headers[name] == value
    assert answer.headers["access-control-allow-origin"] == SHOP
    assert "Origin" in answer.headers["vary"]
    assert not {"x-powered-by", "set-cookie"} & set(answer.headers)


async def test_every_error_is_a_problem_that_gives_nothing_away(strict_app: FastAPI) -> None:
    async with browser(strict_app) as client:
        for name, case in CASES.items():
            headers = (case.person.headers if case.person else {}) | case.options.get("headers", {})
            options = case.options | {"headers": headers}
            if options.get("content") is chunks:
                options["content"] = chunks()
            answer = await client.request(case.method, case.path, **options)
            check_problem(answer, case.status, case.code)
            check_headers(answer)
            is_challenge = answer.headers.get("www-authenticate", "").startswith("Bearer")
            assert (case.status == 401) == is_challenge, name


async def test_request_id_differs_and_belongs_to_one_answer(client: httpx2.AsyncClient) -> None:
    answers = [await client.get("/missing") for _ in range(3)]
    assert len({answer.json()["request_id"] for answer in answers}) == 3


async def by_statement(db: DbSession) -> None:
    await db.execute(update(User).values(full_name=CANARY))


async def by_model(db: DbSession) -> None:
    (await db.get_one(User, ALICE.id)).full_name = CANARY


async def test_handler_that_writes_in_a_get_is_one_logged_500(strict_app: FastAPI) -> None:
    """A bug, and no outage: it does not go away by waiting."""
    paths = ("/by-statement", "/by-model")
    for path, write in zip(paths, (by_statement, by_model), strict=True):
        strict_app.get(f"/api/v1{path}")(write)
    async with browser(strict_app) as client:
        for path in paths:
            with capture_logs() as logs:
                answer = await client.get(path)
            check_problem(answer, 500, "internal_error")
            failures = [entry["event"] for entry in logs if entry["log_level"] != "info"]
            assert failures == ["unhandled_exception"], path
            alice = (await client.get("/users/me", headers=ALICE.headers)).json()
            assert alice["full_name"] != CANARY, path


async def test_half_an_answer_is_never_completed(strict_app: FastAPI) -> None:
    async with browser(strict_app) as client:
        with pytest.raises(RuntimeError, match=CANARY):
            await client.get("/half")


async def test_too_many_attempts_say_when_to_come_back(
    client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = {"username": ALICE.name, "password": "wrong"}
    set_limits(app, monkeypatch, per_address=RateLimitItemPerMinute(3, 15))
    for _ in range(3):
        assert (await client.post("/auth/login", data=form)).status_code == 401
    answer = await client.post("/auth/login", data=form)
    check_problem(answer, 429, "rate_limited")
    assert 0 < int(answer.headers["retry-after"]) <= settings.SIGN_IN_WINDOW_MINUTES * 60


UNREACHABLE = {
    "sqlite": "sqlite+aiosqlite:////nowhere/at/all/specimen.db",
    "postgresql": "postgresql+asyncpg://nobody:c4nary@127.0.0.1:1/nothing",
}
WITH_DATABASE: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("GET", "/../../health/ready", {}),
    ("GET", "/products/", {}),
    ("POST", "/users/", {"json": SIGN_UP}),
    ("POST", "/auth/login", {"data": {"username": CANARY, "password": CANARY}}),
    ("PATCH", "/users/me", {"json": {}, "headers": ALICE.headers}),
    ("DELETE", "/products/1", {"headers": ALICE.headers}),
)


async def test_unreachable_database_is_a_503(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "DATABASE_URL", SecretStr(UNREACHABLE[engine]))
    monkeypatch.setattr(settings, "ALLOWED_ORIGINS", [SHOP])
    app = create_app()
    async with lifespan(app), browser(app) as client:
        for method, path, options in WITH_DATABASE:
            answer = await client.request(method, path, **options)
            check_problem(answer, 503, "unavailable")
            check_headers(answer)
            assert int(answer.headers["retry-after"]) > 0
        assert (await client.get("/../../health/live")).status_code == 200
        # aiosqlite waits for no thread whose connection failed: none may outlive the loop.
        await asyncio.sleep(0.1)


def methods_by_path() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for context in iter_route_contexts(app.routes):
        if context.path_format and context.methods:
            found.setdefault(context.path_format, set()).update(context.methods)
    return found


async def test_wrong_method_is_told_all_right_ones(client: httpx2.AsyncClient) -> None:
    paths = methods_by_path() | {"/api/docs/assets/favicon.png": {"GET"}}
    for method in ("OPTIONS", "POST", "TRACE", "BREW"):
        for path, methods in paths.items():
            if method in methods:
                continue
            url = "http://testserver" + re.sub("{[^}]*}", "1", path)
            answer = await client.request(method, url)
            if method == "OPTIONS":
                assert (answer.status_code, answer.content) == (204, b"")
                assert "content-type" not in answer.headers
            else:
                check_problem(answer, 405, "method_not_allowed")
            expected = methods | {"OPTIONS"} | ({"HEAD"} if "GET" in methods else set())
            assert set(answer.headers["allow"].split(", ")) == expected, path
    assert (await client.options("/nothing")).status_code == 404


async def test_error_on_a_body_wrong_in_many_places_is_short(alice: httpx2.AsyncClient) -> None:
    body = CHAIR | {f"{number}{'x' * 200}": number for number in range(900)}
    answer = await alice.post("/products/", json=body)
    check_problem(answer, 422, "invalid_input")
    assert len(answer.json()["errors"]) == 50
    assert len(answer.content) < 20_000


async def test_unique_violation_names_the_field_alone(
    alice: httpx2.AsyncClient, bob: httpx2.AsyncClient
) -> None:
    product = await create(bob, sku="B")
    await create(alice, sku=CANARY)
    answer = await bob.patch(f"/products/{product['id']}", json={"sku": CANARY})
    check_problem(answer, 400, "already_exists")
    assert answer.json()["detail"] == "Product with this sku already exists"


def test_no_problem_is_written_elsewhere() -> None:
    """`HTTPException` would get around the one place that writes problems."""
    sources = {path: path.read_text() for path in Path("app").rglob("*.py")}
    raising = {path.name for path, source in sources.items() if "raise HTTPException" in source}
    assert raising <= {"middleware.py"}
