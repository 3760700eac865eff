"""The examples of docs/ways-out.md, run as they stand there."""

import asyncio
import os
import re
import shutil
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import timberframe.app
from fastapi import APIRouter, FastAPI
from sqlalchemy import Select
from timberframe.testing import ADMIN, ALICE, Person, lifespan, serving

from app.api.v1.api import api_router
from app.core.config import settings
from app.crud import user_crud

PAGE = Path(__file__).parents[1] / "docs" / "ways-out.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


def routers(name: str) -> list[APIRouter]:
    found = []
    for number, block in enumerate(BLOCKS):
        names: dict[str, object] = {"__name__": f"ways_out_{number}"}
        code = compile(block, f"{PAGE.name}, block {number + 1}", "exec")
        exec(code, names)  # noqa: S102 - of our own page
        if isinstance(router := names.get(name), APIRouter):
            found.append(router)
    return found


def create_app() -> FastAPI:
    api = APIRouter()
    ways_out, (second,) = routers("router"), routers("v2_router")
    assert len(ways_out) == len(BLOCKS) - 1
    for router in (api_router, *ways_out):
        api.include_router(router)
    return timberframe.app.create_app(
        settings, accounts=user_crud, routers={"/api/v1": api, "/api/v2": second}
    )


@pytest.fixture(scope="module")
def extended() -> FastAPI:
    return create_app()


@pytest.fixture
async def app(extended: FastAPI, database_url: str) -> AsyncIterator[FastAPI]:
    async with lifespan(extended):
        yield extended


def client_of(app: FastAPI, person: Person | None = None) -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(app)
    headers = person.headers if person else {}
    return httpx2.AsyncClient(
        transport=transport, base_url="http://testserver/api/v1", headers=headers
    )


async def test_each_way_out_works(app: FastAPI) -> None:
    async with client_of(app) as anybody, client_of(app, ALICE) as alice:
        assert (await anybody.get("/ping")).json() == {"answer": "pong"}
        chair = {"sku": "C", "name": "Chair", "price": "19.90"}
        created = await alice.post("/stocked-products", json=chair)
        assert created.status_code == 201, created.text
        key = created.json()["id"]
        assert (await anybody.get(f"/products/{key}")).json()["stock"] == 10
        label = await anybody.get(f"/products/{key}/label")
        assert label.json() == {"text": "Chair: 19.90 EUR, alice"}
        seen = await anybody.get(f"/products/{key}/seen", headers={"X-Room": "2"})
        assert (seen.headers["x-shelf"], seen.cookies["last_seen"]) == ("2-7", str(key))
        assert seen.json()["name"] == "Chair"
        async with client_of(app, ADMIN) as admin:
            assert (await admin.get("/reports/stock")).json() == {"EUR": 10}
        assert (await alice.get("/reports/stock")).status_code == 403
        picture = await alice.post("/pictures", content=b"x" * 1000)
        assert picture.json() == {"bytes": 1000, "owner_id": ALICE.id}


async def test_second_version_has_the_routes_of_the_first_but_one(app: FastAPI) -> None:
    async with client_of(app, ALICE) as alice, client_of(app) as anybody:
        chair = {"sku": "C", "name": "Chair", "price": "19.90"}
        key = (await alice.post("/products/", json=chair)).json()["id"]
        second = "http://testserver/api/v2/products/"
        assert len((await anybody.get(second)).json()["items"]) == 1
        assert (await anybody.get(f"/products/{key}")).status_code == 200
        assert (await anybody.get(f"{second}{key}")).status_code == 401
        assert (await alice.get(f"{second}{key}")).status_code == 200
    changed = app.openapi()["paths"]["/api/v2/products/{product_id}"]
    assert {changed[method]["operationId"] for method in changed} == {
        *("v2_read_product", "v2_update_product", "v2_patch_product", "v2_delete_product")
    }


async def test_own_rule_leaves_nothing_of_either_table(app: FastAPI) -> None:
    async with client_of(app, ALICE) as alice:
        gift = {"sku": "G", "name": "Gift", "price": "0"}
        refused = await alice.post("/stocked-products", json=gift)
        assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
        assert (await alice.get("/products/")).json()["items"] == []


async def test_rule_holds_when_many_ask_at_once(app: FastAPI) -> None:
    async with client_of(app, ALICE) as alice:
        chair = {"sku": "C", "name": "Chair", "price": "19.90"}
        path = f"/products/{(await alice.post('/products/', json=chair)).json()['id']}"
        answers = await asyncio.gather(*(alice.post(f"{path}/deliveries") for _ in range(20)))
        assert sorted(answer.status_code for answer in answers) == [201] * 3 + [409] * 17
        assert (await alice.get(path)).json()["stock"] == 3


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
async def test_control_rule_without_the_lock_is_passed_by_some(
    app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite has one writer at a time: there the rule holds by itself.

    Whether requests meet is chance, so they get several tries.
    """

    def unlocked(self: Any, *arguments: Any, **options: Any) -> Any:
        return self

    monkeypatch.setattr(Select, "with_for_update", unlocked)
    taken: list[int] = []
    async with client_of(app, ALICE) as alice:
        while len(taken) < 10 and max(taken, default=0) <= 3:
            chair = {"sku": f"C-{len(taken)}", "name": "Chair", "price": "19.90"}
            path = f"/products/{(await alice.post('/products/', json=chair)).json()['id']}"
            answers = await asyncio.gather(*(alice.post(f"{path}/deliveries") for _ in range(20)))
            taken.append(sum(answer.status_code == 201 for answer in answers))
    assert max(taken) > 3, taken


async def test_list_below_a_row_has_the_rows_of_it_alone(app: FastAPI) -> None:
    async with client_of(app, ALICE) as alice, client_of(app, ADMIN) as admin:
        made = await admin.post("/categories/", json={"slug": "chairs", "name": "Chairs"})
        for sku, category in (("A", "chairs"), ("B", None), ("C", "chairs")):
            product = {"sku": sku, "name": sku, "price": "1", "category": category}
            assert (await alice.post("/products/", json=product)).status_code == 201
        path = f"/categories/{made.json()['id']}/products"
        listed = (await alice.get(path, params={"sort": "-sku", "limit": 1})).json()
        assert ([row["sku"] for row in listed["items"]], listed["total"]) == (["C"], 2)
        assert (await alice.get("/categories/99/products")).status_code == 404


async def test_policy_holds_on_the_way_out(app: FastAPI) -> None:
    async with client_of(app) as anybody, client_of(app, ALICE) as alice:
        hidden = {"sku": "H", "name": "Hidden", "price": "1", "is_active": False}
        key = (await alice.post("/products/", json=hidden)).json()["id"]
        for path in (f"/products/{key}/label", f"/products/{key}/seen"):
            assert (await anybody.get(path)).status_code == 404
            assert (await alice.get(path)).status_code == 200


ECHOING = """
from timberframe.app import create_app

from app.core.config import settings
from app.crud import user_crud

app = create_app(settings, accounts=user_crud, routers={"/api/v1": router})
"""
SERVE = """
from timberframe.cli import create_cli, run

from app.core.config import settings

run(create_cli(settings, app="echoing:app", accounts="app.crud:user_crud"))
"""


async def test_websocket_is_served_when_it_is_switched_on(
    tmp_path: Path, sqlite_template: Path
) -> None:
    [block] = [block for block in BLOCKS if "websocket" in block]
    (tmp_path / "echoing.py").write_text(block + ECHOING)
    shutil.copyfile(sqlite_template, tmp_path / "echo.db")
    settings = {"DATABASE_URL": f"sqlite:///{tmp_path}/echo.db", "PYTHONPATH": str(tmp_path)}
    for is_on, status in (("true", b"101"), ("false", b"404")):
        with serving(before=SERVE, WEBSOCKETS=is_on, **settings) as server:
            assert await handshake(server.url) == status


async def handshake(url: str) -> bytes:
    """The status of an upgrade; and of one that is taken, the echo of `hi`."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    key = b64encode(os.urandom(16)).decode()
    head = (
        f"GET /api/v1/echo HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: {key}\r\n\r\n"
    )
    writer.write(head.encode())
    status = (await reader.readuntil(b"\r\n\r\n")).split()[1]
    if status == b"101":
        mask, text = b"\1\2\3\4", b"hi"
        masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(text))
        writer.write(bytes((0x81, 0x80 | len(text))) + mask + masked)  # RFC 6455 section 5.2
        assert await reader.readexactly(4) == b"\x81\x02hi"
    writer.close()
    return status
