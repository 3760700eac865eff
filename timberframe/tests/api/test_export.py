"""Export over HTTP: which rows, of one moment, inert in a spreadsheet, the same after an import."""

import asyncio
import csv
import gzip
import io
import json
from typing import Any

import httpx2
import pytest
from sqlalchemy import delete, insert, select, update

from specimen import schemas
from specimen.asgi import call
from specimen.crud import product_crud
from specimen.factories import add, create, row
from specimen.main import app
from specimen.models import Product
from timberframe.bulk.exports import export
from timberframe.data.session import Database
from timberframe.http import bulk
from timberframe.schemas.bulk import ExportParams
from timberframe.testing import ALICE
from timberframe.testing.databases import connections_taken

COLUMNS = "sku,name,description,price,currency,stock,is_active,category,tags"
TEXTS = (
    *("=1+1", "+1", "-1", "@x", "'", "''", "'=1", "''=1", "'tis", '"quoted"', "a,b;c", "Zoë 🪑"),
    *("＝1", "x" * 200),
)
LONG_TEXTS = (
    *TEXTS,
    "",
    None,
    "\t=1",
    "\r=1",
    "\n=1",
    "a\nb\r\nc\rd",
    "\u2028",
    "\u00a0=1",
    "x" * 10_000,
    " ",
)


async def fill(database: Database, count: int, **values: Any) -> None:
    await add(database, [row(number, owner_id=ALICE.id) | values for number in range(count)])


async def export_of(client: httpx2.AsyncClient, **params: Any) -> str:
    answer = await client.get("/products/export", params=params)
    assert answer.status_code == 200, answer.text
    return answer.content.decode()


async def test_csv_is_that_of_rfc_4180(alice: httpx2.AsyncClient) -> None:
    await create(alice, name="=HYPERLINK()", description='a "b", c\nd', stock=3)
    answer = await alice.get("/products/export")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="products.csv"'
    assert answer.content.decode() == (
        f'{COLUMNS}\r\nCH-1,\'=HYPERLINK(),"a ""b"", c\nd",19.90,EUR,3,true,,\'\r\n'
    )


async def test_jsonl_has_an_object_a_line(alice: httpx2.AsyncClient) -> None:
    await create(alice, name="=1", description="a\u2028\nb")
    await create(alice, sku="DE-1")
    answer = await alice.get("/products/export", params={"format": "jsonl"})
    assert answer.headers["content-type"] == "application/jsonl"
    assert answer.headers["content-disposition"] == 'attachment; filename="products.jsonl"'
    first, second, end = answer.content.decode().split("\n")
    assert end == ""
    assert list(json.loads(first)) == COLUMNS.split(",")
    assert json.loads(first)["name"] == "=1"
    assert json.loads(first)["price"] == "19.90"
    assert json.loads(second)["sku"] == "DE-1"


async def test_export_has_the_rows_of_the_list_in_its_order(
    client: httpx2.AsyncClient,
    alice: httpx2.AsyncClient,
    bob: httpx2.AsyncClient,
    admin: httpx2.AsyncClient,
    database: Database,
) -> None:
    await fill(database, 60)
    await create(alice, sku="HIDDEN", is_active=False)
    deleted = await create(alice, sku="DELETED")
    await alice.delete(f"/products/{deleted['id']}")
    questions: list[dict[str, Any]] = [
        {},
        {"sort": "-price,name"},
        {"price__gte": 10, "currency__in": "EUR,JPY"},
        {"q": "desk"},
        {"is_active": False},
        {"description__isnull": True, "sort": "-created_at"},
    ]
    for caller in (client, alice, bob, admin):
        for params in questions:
            page = (await caller.get("/products/", params=params)).json()
            expected = [item["sku"] for item in page["items"]]
            rows = csv.DictReader(io.StringIO(await export_of(caller, **params)))
            assert [found["sku"] for found in rows] == expected
    assert "HIDDEN" in await export_of(admin)
    assert "HIDDEN" not in await export_of(bob) + await export_of(client)
    assert "DELETED" not in await export_of(admin) + await export_of(alice)


async def test_empty_list_is_an_empty_file(client: httpx2.AsyncClient) -> None:
    assert await export_of(client) == COLUMNS + "\r\n"
    assert await export_of(client, format="jsonl") == ""


NOT_TAKEN: tuple[Any, ...] = (
    *({"limit": 5}, {"skip": 5}, {"cursor": "x"}, {"is_deleted": True}, {"format": "xml"}),
    *({"sort": "stock"}, {"nonsense": 1}, {"price__gte": "x"}),
    httpx2.QueryParams([("sku", "a"), ("sku", "b")]),
)


async def test_what_an_export_does_not_take_is_refused(alice: httpx2.AsyncClient) -> None:
    for params in NOT_TAKEN:
        answer = await alice.get("/products/export", params=params)
        assert answer.status_code == 422, params


FORMATS = {"csv": "text/csv", "jsonl": "application/jsonl"}


async def test_export_imported_and_exported_again_is_the_same(
    alice: httpx2.AsyncClient, bob: httpx2.AsyncClient, database: Database
) -> None:
    await fill(database, 1100)
    for number, text in enumerate(LONG_TEXTS):
        name = text if text in TEXTS else "Name"
        await create(
            alice, sku=f"T-{number}", name=name, description=text, is_active=bool(number % 2)
        )
    exports = {name: await export_of(alice, format=name) for name in FORMATS}
    for file_format, exported in exports.items():
        async with database.transaction() as db:
            await db.execute(delete(Product))
        headers = {"Content-Type": FORMATS[file_format]}
        answer = await bob.post("/products/import", content=exported, headers=headers)
        assert answer.json()["created"] == 1100 + len(LONG_TEXTS), file_format
        assert await export_of(bob, format=file_format) == exported
        async with database.reading() as db:
            kept = await db.execute(select(Product.name, Product.description).offset(1100))
            texts = {(name, description) for name, description in kept}
        assert texts == {(text if text in TEXTS else "Name", text) for text in LONG_TEXTS}


async def test_no_cell_is_a_formula(alice: httpx2.AsyncClient) -> None:
    for number, text in enumerate(LONG_TEXTS):
        await create(alice, sku=f"T-{number}", description=text)
    for cells in csv.reader(io.StringIO(await export_of(alice), newline="")):
        assert not any(cell.startswith(tuple("=+-@\t\r\n＝")) for cell in cells)


async def test_export_is_of_one_moment(alice: httpx2.AsyncClient, database: Database) -> None:
    await fill(database, 600, name="before")
    pieces = export(
        database, product_crud, schemas.ProductCreate, "csv", params=ExportParams(), viewer=None
    )
    text = (await anext(pieces)).decode()
    async with database.transaction() as db:
        await db.execute(delete(Product).where(Product.sku == "S-599"))
        await db.execute(update(Product).values(name="after"))
        await db.execute(insert(Product).values(row(5000, owner_id=ALICE.id)))
    async for piece in pieces:
        text += piece.decode()
    assert text.count("before") == text.count("\n") - 1 == 600
    assert "before" not in await export_of(alice)


async def test_export_is_streamed_through_the_compression_too(
    client: httpx2.AsyncClient, database: Database
) -> None:
    await fill(database, 600)
    sent: list[int] = []
    whole = b""
    headers = {"Accept-Encoding": "gzip"}
    async with client.stream("GET", "/products/export", headers=headers) as answer:
        assert answer.headers["content-encoding"] == "gzip"
        assert "content-length" not in answer.headers
        async for chunk in answer.aiter_raw():
            sent.append(len(chunk))
            whole += chunk
    assert len(gzip.decompress(whole).splitlines()) == 601


async def test_only_so_many_exports_run_at_once(
    client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for free, status in ((0, 503), (1, 200)):
        monkeypatch.setattr(app.state.transfer_slots.exports, "free", free)
        answer = await client.get("/products/export")
        assert answer.status_code == status
        assert ("retry-after" in answer.headers) == (status == 503)
        assert app.state.transfer_slots.exports.free == free


@pytest.mark.parametrize("leaves", ["gone", "slow"])
async def test_client_that_takes_no_more_holds_nothing(
    leaves: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "STALLED_SECONDS", 0.2)
    await fill(database, 600)
    free = app.state.transfer_slots.exports.free
    is_held = asyncio.Event()
    is_whole = False
    body = 0

    async def receive() -> dict[str, Any]:
        await is_held.wait()
        if leaves == "slow":
            await asyncio.sleep(60)
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        nonlocal body, is_whole
        body += len(message.get("body", b""))
        is_whole = not message.get("more_body", True)
        if body:
            # One is under way, and holds what it needs.
            assert app.state.transfer_slots.exports.free == free - 1
            assert connections_taken(database) == 1
            is_held.set()
            await asyncio.sleep(60)

    scope = {
        "type": "http", "method": "GET", "path": "/api/v1/products/export", "query_string": b"",
        "headers": [(b"host", b"testserver")], "scheme": "http", "asgi": {"spec_version": "2.3"},
        "http_version": "1.1", "root_path": "", "client": ("127.0.0.1", 1), "raw_path": b"",
        "server": ("127.0.0.1", 80),
    }  # fmt: skip
    async with asyncio.timeout(10):
        await app(scope, receive, send)
    assert not is_whole
    assert app.state.transfer_slots.exports.free == free
    assert connections_taken(database) == 0


async def test_failure_before_the_first_row_is_a_problem(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with database.transaction() as db:
        await db.execute(Product.__table__.select())
        monkeypatch.setattr(product_crud, "stream", None)
        answer = await call(app, ("host", "testserver"), path="/api/v1/products/export")
    assert answer.status == 500
    assert answer.headers["content-type"] == "application/problem+json"
