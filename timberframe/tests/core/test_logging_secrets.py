"""The log of a real server in production, with a canary in everything that a client can send."""

import asyncio
import json
import secrets
from typing import Any
from urllib.parse import quote

import httpx2
from sqlalchemy import select

from specimen import models
from timberframe.data.session import open_database
from timberframe.testing import ALICE, CAST, database_options, serving
from timberframe.testing.forked import exit_code

PASSWORD = "Canary-Pass-1"
EMAIL = "canary@example.com"
SECRET_KEY = f"canary-{secrets.token_urlsafe(32)}"


def send_canaries(client: httpx2.Client) -> list[httpx2.Response]:
    """One request for every way in that a client has, and what became of it."""
    user = {"email": EMAIL, "username": "canary", "full_name": "Canary", "password": PASSWORD}
    form = {"username": EMAIL, "password": PASSWORD}
    signed_up = client.post("/users/", json=user)
    signed_in = client.post("/auth/login", data=form)
    token = signed_in.json()["access_token"]
    own = {"Authorization": f"Bearer {token}"}
    new_email = {"email": "canary2@example.com"}
    return [
        signed_up,
        signed_in,
        client.post("/users/", json=user),
        client.post("/users/", json=user | {"password": "canary"}),
        client.post("/users/", json=user | {"canary": "canary"}),
        client.post("/users/", content=json.dumps(user)[:-1]),
        client.post("/users/", content=json.dumps(user), headers={"Content-Type": "text/canary"}),
        client.post("/users/", content=b'"\xff canary'),
        # On a connection of its own, which the server may close without reading the rest.
        httpx2.post(f"{client.base_url}users/", content="canary" * 200_000),
        client.post("/auth/login", data=form | {"password": f"{PASSWORD}2"}),
        client.post("/auth/login", data=form | {"username": "canary2@example.com"}),
        client.post("/auth/login", data=form | {"canary": "canary"}),
        client.post("/auth/login", json=form),
        client.post("/auth/login", files={"canary": ("canary", b"canary")}),
        client.get("/users/me", headers=own),
        client.get("/users/me", headers={"Authorization": f"Bearer {token}canary"}),
        client.get("/users/me", headers={"Authorization": f"Basic {token}"}),
        client.get("/users/me", params={"access_token": token, "password": PASSWORD}),
        client.put("/users/me", headers=own, json=new_email | {"current_password": PASSWORD}),
        client.put("/users/me", headers=own, json=new_email | {"current_password": "canary"}),
        client.put("/users/me", headers=own, json={"email": ALICE.email, "password": PASSWORD}),
        client.get(f"/{quote(EMAIL)}"),
        client.get(f"/products/{token}"),
        client.get("/products/", params={"q": PASSWORD}),
        client.get("/products/", params={"limit": PASSWORD}),
        client.get("/products/", params={"canary": PASSWORD}),
        client.request("CANARY", "/products/"),
        client.get("/products/", headers={"Cookie": f"session={token}"}),
        client.get("/products/", headers={"User-Agent": EMAIL, "Referer": f"http://x/?t={token}"}),
        client.get("/products/", headers={"X-Request-ID": f"{EMAIL} {token}"}),
        client.get("/products/", headers={"X-Canary": PASSWORD, "Origin": "http://canary.example"}),
        client.get("/products/", headers={"Host": "canary.example"}),
    ]


async def stored_hashes() -> list[str]:
    async with open_database(database_options()) as database, database.reading() as db:
        return list(await db.scalars(select(models.User.hashed_password)))


def test_most_talkative_log_holds_nothing_that_was_sent(database_url: str) -> None:
    settings = {
        "ENVIRONMENT": "production",
        "SECRET_KEY": SECRET_KEY,
        "ALLOWED_HOSTS": "127.0.0.1",
        "LOG_LEVEL": "DEBUG",
        "DATABASE_URL": database_url,
    }
    with serving(**settings) as server:
        with httpx2.Client(base_url=f"{server.url}/api/v1", timeout=60) as client:
            answers = send_canaries(client)
        server.process.terminate()
        exit_code(server.process, within=20)
        log = server.log.read_text()
    token = answers[1].json()["access_token"]
    assert {answer.status_code for answer in answers} >= {200, 201, 400, 401, 403, 404, 413, 422}
    assert all(answer.status_code < 500 for answer in answers)

    lines: list[dict[str, Any]] = [json.loads(line) for line in log.splitlines()]
    logged = {line["request_id"]: line for line in lines if line["event"] == "request"}
    for answer in answers:
        assert logged.pop(answer.headers["x-request-id"])["status"] == answer.status_code
    leaks = [line for line in log.lower().splitlines() if "canary" in line]
    # A method is logged as it came.
    assert [line for line in leaks if '"method":"canary"' not in line] == []
    hashes = asyncio.run(stored_hashes())
    assert len(hashes) == len(CAST) + 1
    for secret in (token, token.split(".")[2], *hashes, SECRET_KEY):
        assert secret not in log
