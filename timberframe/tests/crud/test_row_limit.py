"""A limit of rows for one owner: it holds under a race, for creations and imports alike."""

import asyncio
from collections import Counter
from typing import Any, ClassVar
from uuid import uuid4

import httpx2
import pytest
from sqlalchemy import delete, func, select

from specimen.crud import CRUDProduct, product_crud
from specimen.models import Product
from timberframe.bulk import imports
from timberframe.crud.row_limit import RowLimit
from timberframe.data.session import Database
from timberframe.data.unit_of_work import UnitOfWork
from timberframe.errors import WrongDeclaration
from timberframe.testing import ALICE

LIMIT = 3


@pytest.fixture(autouse=True)
def limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(product_crud, "row_limit", RowLimit(Product.owner_id, LIMIT), raising=False)


async def create(
    owner: httpx2.AsyncClient, *, with_key: bool = False, **changes: Any
) -> httpx2.Response:
    body = {"sku": uuid4().hex, "name": "Chair", "price": 1} | changes
    headers = {"Idempotency-Key": uuid4().hex} if with_key else {}
    return await owner.post("/products/", json=body, headers=headers)


async def send(owner: httpx2.AsyncClient, skus: list[str], **params: Any) -> httpx2.Response:
    text = "sku,name,price\n" + "".join(f"{sku},Desk,2\n" for sku in skus)
    headers = {"Content-Type": "text/csv"}
    return await owner.post("/products/import", content=text, params=params, headers=headers)


async def count(database: Database) -> int:
    async with database.reading() as db:
        rows = select(func.count()).where(Product.owner_id == ALICE.id)
        return await db.scalar(rows) or 0


async def test_row_beyond_the_limit_is_refused(
    alice: httpx2.AsyncClient, bob: httpx2.AsyncClient, database: Database
) -> None:
    made = [await create(alice, with_key=n % 2 == 0) for n in range(LIMIT)]
    assert [answer.status_code for answer in made] == [201] * LIMIT
    for with_key in (False, True):
        refused = await create(alice, with_key=with_key)
        assert (refused.status_code, refused.json()["code"]) == (409, "row_limit_reached")
        assert refused.json()["detail"] == "Product: one owner may have at most 3"
    unknown = await create(alice, category="nowhere")
    assert unknown.json()["code"] == "unknown_reference"
    path = made[0].headers["Location"].removeprefix("/api/v1")
    assert (await alice.patch(path, json={"name": "Table"})).status_code == 200
    # What can be restored takes its place still.
    assert (await alice.delete(path)).status_code == 204
    assert (await create(alice)).status_code == 409
    assert (await alice.post(f"{path}/restore")).status_code == 200
    assert (await create(bob)).status_code == 201
    assert await count(database) == LIMIT


async def all_at_once(alice: httpx2.AsyncClient) -> Counter[int]:
    creations = [create(alice, with_key=n % 2 == 0) for n in range(20)]
    files = [send(alice, [uuid4().hex], mode="skip") for _ in range(2)]
    answers = await asyncio.gather(*creations, *files)
    return Counter(answer.status_code for answer in answers if answer.request.method == "POST")


async def test_limit_holds_whoever_adds_rows_at_once(
    alice: httpx2.AsyncClient, database: Database
) -> None:
    statuses = await all_at_once(alice)
    assert await count(database) == LIMIT
    assert statuses.keys() <= {200, 201, 409, 503}


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
async def test_control_without_the_lock_it_would_not_hold(
    alice: httpx2.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite has one writer at a time."""

    async def take_no_lock(*_: object) -> None:
        await asyncio.sleep(0.1)  # so that the others begin meanwhile

    monkeypatch.setattr(UnitOfWork, "take_lock", take_no_lock)
    for _ in range(5):  # on a busy machine they may come one after another
        async with database.transaction() as db:
            await db.execute(delete(Product))
        await all_at_once(alice)
        if await count(database) > LIMIT:
            return
    pytest.fail("the limit held without its lock")


async def test_import_takes_as_many_new_rows_as_there_is_room_for(
    alice: httpx2.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "BATCH_ROWS", 2)
    assert (await create(alice, sku="B")).status_code == 201
    skus = ["A", "B", "C", "D", "E"]
    figures = ("created", "updated", "refused")
    for dry_run in (True, False):
        answer = await send(alice, skus, mode="skip", dry_run=dry_run)
        report = answer.json()
        assert [report[name] for name in figures] == [2, 1, 2], answer.text
        assert [(error["line"], error["reason"]) for error in report["errors"]] == [
            (5, "one owner may have at most 3"),
            (6, "one owner may have at most 3"),
        ]
        assert await count(database) == (1 if dry_run else 3)


async def test_import_of_every_row_or_none_takes_none_beyond_the_limit(
    alice: httpx2.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "BATCH_ROWS", 2)
    for dry_run in (True, False):
        answer = await send(alice, ["A", "B", "C", "D"], dry_run=dry_run)
        assert (answer.status_code, answer.json()["code"]) == (422, "import_refused")
        assert [error["line"] for error in answer.json()["errors"]] == [5]
    assert await count(database) == 0
    assert (await send(alice, ["A", "B", "C"])).json()["created"] == 3
    assert (await send(alice, ["A", "B", "C"])).json()["unchanged"] == 3


CATEGORY: Any = Product.category
WRONG: dict[str, Any] = {
    "must state its row_limit as RowLimit": 3,
    "one row or more": RowLimit(Product.owner_id, 0),
    "category: it may be null": RowLimit(CATEGORY, 3),
    "stock: it needs an index": RowLimit(Product.stock, 3),
}


@pytest.mark.parametrize("message", WRONG)
def test_limit_that_cannot_work_is_refused_at_the_start(message: str) -> None:
    class CRUDLimited(CRUDProduct):
        row_limit: ClassVar[Any] = WRONG[message]

    with pytest.raises(WrongDeclaration, match=message):
        CRUDLimited(Product)
