"""Many buyers and writers, two processes: nothing is sold twice, and no update is lost."""

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal

import httpx2
import pytest
from sqlalchemy import func, insert, select, update
from timberframe.data.session import Database
from timberframe.testing import ALICE, ServerProcess

from app.models import Product, StockMovement

pytestmark = pytest.mark.seconds(4)

STOCK, BUYERS = 15, 45
UPDATES = 10


@pytest.fixture
async def buyers(server: ServerProcess) -> AsyncIterator[httpx2.AsyncClient]:
    async with server.client(ALICE) as client:
        yield client


async def new_product(database: Database, number: int) -> int:
    async with database.transaction() as db:
        values = {"sku": f"S-{number}", "name": "Chair", "price": Decimal(1), "currency": "EUR"}
        values |= {"owner_id": ALICE.id, "stock": STOCK}
        return (await db.scalars(insert(Product).returning(Product.id), [values])).one()


async def buy(buyers: httpx2.AsyncClient, product_id: int) -> httpx2.Response:
    """Again while a busy machine keeps the row locked for too long, as a buyer would."""
    body = {"delta": -1, "reason": "Sale"}
    while True:
        answer = await buyers.post(f"/products/{product_id}/stock-movements", json=body)
        if answer.status_code != 503:
            return answer


async def test_45_buyers_get_15_pieces(buyers: httpx2.AsyncClient, database: Database) -> None:
    product_id = await new_product(database, 0)
    answers = await asyncio.gather(*(buy(buyers, product_id) for _ in range(BUYERS)))
    statuses = [answer.status_code for answer in answers]
    assert (statuses.count(201), statuses.count(409)) == (STOCK, BUYERS - STOCK)
    left = sorted(answer.json()["stock"] for answer in answers if answer.status_code == 201)
    assert left == list(range(STOCK))
    async with database.reading() as db:
        moved = select(func.sum(StockMovement.delta))
        assert await db.scalar(moved.where(StockMovement.product_id == product_id)) == -STOCK
        assert await db.scalar(select(Product.stock).where(Product.id == product_id)) == 0


async def test_check_before_the_update_sells_too_much(database: Database) -> None:
    """The control: the same buyers, who look first and take then."""
    product_id, sold = await new_product(database, 0), 0
    is_it = Product.id == product_id

    async def buy() -> None:
        nonlocal sold
        async with database.reading() as db:
            stock = await db.scalar(select(Product.stock).where(is_it)) or 0
        if stock:
            async with database.transaction() as db:
                await db.execute(update(Product).where(is_it).values(stock=stock - 1))
            sold += 1

    await asyncio.gather(*(buy() for _ in range(BUYERS)))
    assert sold > STOCK


async def updates_that_are_lost(
    writers: httpx2.AsyncClient, product_id: int, *, with_if_match: bool
) -> int:
    """Two writers count up, each from what they have read."""
    path, done = f"/products/{product_id}", 0

    async def write() -> None:
        nonlocal done
        for _ in range(UPDATES):
            while True:
                seen = await writers.get(path)
                headers = {"If-Match": seen.headers["etag"]} if with_if_match else {}
                body = {"stock": seen.json()["stock"] + 1}
                answer = await writers.patch(path, json=body, headers=headers)
                if answer.status_code != 412:
                    break
            assert answer.status_code == 200, answer.text
            done += 1

    before = (await writers.get(path)).json()
    await asyncio.gather(write(), write())
    after = (await writers.get(path)).json()
    assert done == 2 * UPDATES
    return int(before["stock"]) + done - int(after["stock"])


async def test_no_update_with_if_match_is_lost(
    buyers: httpx2.AsyncClient, database: Database
) -> None:
    product_id = await new_product(database, 0)
    assert await updates_that_are_lost(buyers, product_id, with_if_match=True) == 0


async def test_updates_without_if_match_are_lost(
    buyers: httpx2.AsyncClient, database: Database
) -> None:
    """The control."""
    product_id = await new_product(database, 0)
    assert await updates_that_are_lost(buyers, product_id, with_if_match=False) > 0
