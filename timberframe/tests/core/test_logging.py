"""Logs: one line of JSON for each request, whatever is sent, and nothing secret in any line."""

import json
import logging
import re
from collections.abc import AsyncIterator, Callable
from contextlib import redirect_stdout
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from fastapi import FastAPI, Request
from sqlalchemy import text

from specimen.config import settings
from timberframe.logging import configure_logging
from timberframe.testing import create_app, lifespan

LineWriter = Callable[[], list[dict[str, Any]]]
# All that ends a line or moves a terminal's cursor, but for the newline itself.
CONTROLS = {chr(n) for n in (*range(10), *range(11, 32), *range(127, 160), 0x2028, 0x2029)}
CANARY = "Canary-7f3a"


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> FastAPI:
    """The application in production, with routes that fail."""
    monkeypatch.setattr(settings, "ENVIRONMENT", "production")
    app = create_app()

    async def fail(name: str, body: dict[str, str]) -> None:
        password = body["password"]
        raise RuntimeError(f"{name} failed with {password}")

    async def fail_in_the_database(request: Request, body: dict[str, str]) -> None:
        async with request.app.state.database.transaction() as db:
            await db.execute(text("SELECT :password FROM nowhere"), body)

    app.add_api_route("/fail/{name}", fail, methods=["POST"])
    app.add_api_route("/fail-in-the-database", fail_in_the_database, methods=["POST"])
    return app


class Output(StringIO):
    def take(self) -> str:
        """What was written since the last call."""
        written = self.getvalue()
        self.seek(0)
        self.truncate()
        return written


@pytest.fixture
def output(monkeypatch: pytest.MonkeyPatch) -> Output:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setattr(logging.getLogger("httpx2"), "disabled", True)  # the caller's own log
    return Output()


def log_to(output: Output) -> None:
    with redirect_stdout(output):
        configure_logging(settings)


@pytest.fixture
async def client(
    app: FastAPI, database_url: str, output: Output
) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app)
    async with (
        lifespan(app),
        httpx2.AsyncClient(transport=transport, base_url="http://testserver/api/v1") as client,
    ):
        log_to(output)
        yield client


@pytest.fixture
def lines(output: Output) -> LineWriter:
    """What was logged since the last call; anything but lines of JSON fails the test."""

    def read() -> list[dict[str, Any]]:
        written = output.take()
        assert not CONTROLS & set(written)
        return [json.loads(line) for line in written.splitlines()]

    return read


async def test_each_request_is_one_line(client: httpx2.AsyncClient, lines: LineWriter) -> None:
    for method, path, route, status in (
        ("GET", "/products/", "/api/v1/products/", 200),
        ("GET", "/products/1", "/api/v1/products/{product_id}", 404),
        ("GET", "/products/x", None, 404),
        ("GET", "/users/me", "/api/v1/users/me", 401),
        ("POST", "/users/me", "/api/v1/users/me", 405),
        ("POST", "/users/", "/api/v1/users/", 422),
        ("POST", "/auth/login", "/api/v1/auth/login", 415),
        ("GET", "/no/such/path", None, 404),
        ("GET", "http://testserver/health", "/health", 200),
        ("GET", "http://testserver/api/docs", "/api/docs", 200),
    ):
        answer = await client.request(method, path)
        [line] = lines()
        assert line == {
            "event": "request",
            "level": "info",
            "timestamp": line["timestamp"],
            "request_id": answer.headers["x-request-id"],
            "method": method,
            "route": route,
            "status": status,
            "duration_ms": line["duration_ms"],
        }
        assert answer.status_code == status
        assert 0 <= line["duration_ms"] < 60_000
        logged_at = datetime.fromisoformat(line["timestamp"])
        assert abs(datetime.now(UTC) - logged_at) < timedelta(minutes=1)


async def test_unhandled_exception_is_logged_with_its_place_and_not_its_text(
    client: httpx2.AsyncClient, lines: LineWriter
) -> None:
    for path, exception in (
        (f"/fail/{CANARY}", "RuntimeError"),
        ("/fail-in-the-database", "OperationalError|ProgrammingError"),
    ):
        answer = await client.post(f"http://testserver{path}", json={"password": CANARY})
        assert answer.status_code == 500
        unhandled, request = lines()
        assert unhandled["event"] == "unhandled_exception"
        assert unhandled["exception"] in exception.split("|")
        assert any("test_logging.py" in frame for frame in unhandled["frames"])
        assert request["status"] == 500
        request_id = answer.headers["x-request-id"]
        assert unhandled["request_id"] == request["request_id"] == request_id
        assert CANARY not in str([unhandled, request])
        assert answer.json()["detail"] == "Internal server error"


async def test_control_characters_do_not_break_the_lines(
    client: httpx2.AsyncClient, lines: LineWriter
) -> None:
    forged = b'\r\n{"event": "request", "status": 200}\r\n\x1b[2J\x07\xe2\x80\xae\xc2\x85'
    for method, path, header in (
        ("GET", "/products/", b"user-agent"),
        ("GET", "/products/", b"x-request-id"),
        ("GET", "/products/", b"x-forwarded-for"),
        ("GET", "/products/", b"referer"),
        ("GET", f"/products/{quote(forged)}", b"accept"),
        ("GET", f"/{quote(forged)}", b"accept"),
        ("GET", f"/products/?q={quote(forged)}", b"accept"),
        ("GET\r\n\x1b[2J", "/products/", b"accept"),
        ("POST", "/auth/login", b"content-type"),
    ):
        await client.request(method, path, headers=[(header, forged)])
        [line] = lines()
        assert line["event"] == "request"
        assert line["status"] != 0


async def test_request_id_is_kept_if_well_formed_and_replaced_if_not(
    client: httpx2.AsyncClient, lines: LineWriter
) -> None:
    for kept in (b"a", b"x" * 64, b"0123-ABC_def.9", b"0f8fad5b-d9cb-469f-a165-70867728950e"):
        assert await request_id(client, lines, kept) == kept.decode()
    for replaced in (
        b"",
        b"x" * 65,
        b"x" * 100_000,
        b"a b",
        b"a,b",
        b"a\n",
        b"a\r\nSet-Cookie: a=b",
        b"\x1b[31ma",
        b"<script>",
        "é".encode(),
        "１２３".encode(),
    ):
        assert re.fullmatch("[0-9a-f]{32}", await request_id(client, lines, replaced)), replaced
    assert await request_id(client, lines, b"a,b") != await request_id(client, lines, b"a,b")


async def request_id(client: httpx2.AsyncClient, lines: LineWriter, sent: bytes) -> str:
    """The id under which the request was answered, and logged."""
    answer = await client.get("/users/me", headers=[(b"x-request-id", sent)])
    [line] = lines()
    assert line["request_id"] == answer.headers["x-request-id"] == answer.json()["request_id"]
    return str(line["request_id"])


async def test_development_log_is_for_people(
    client: httpx2.AsyncClient, output: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "ENVIRONMENT", "development")
    log_to(output)
    await client.get("/products/1")
    [line] = output.take().splitlines()
    assert re.search(r"\[info +\] request ", line)
    for shown in ("method=GET", "route=/api/v1/products/{product_id}", "status=404"):
        assert shown in line
    assert "\x1b" not in line

    await client.post("http://testserver/fail/loudly", json={"password": "x", "other": CANARY})
    printed = output.take()
    assert "RuntimeError: loudly failed with x" in printed
    # A traceback, but not the variables in its frames.
    assert "Traceback (most recent call last)" in printed
    assert CANARY not in printed
