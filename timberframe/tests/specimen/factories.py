"""Rows for the tests."""

import random
from collections.abc import Sequence
from decimal import Decimal
from typing import Any
from uuid import uuid4

import httpx2
from sqlalchemy import insert

from specimen.models import Product
from timberframe.data.session import Database
from timberframe.testing import ALICE, BOB

CHAIR: dict[str, Any] = {"sku": "CH-1", "name": "Chair", "price": "19.90"}


async def create(owner: httpx2.AsyncClient, **changes: Any) -> dict[str, Any]:
    answer = await owner.post("/products/", json=CHAIR | changes)
    assert answer.status_code == 201, answer.text
    product: dict[str, Any] = answer.json()
    return product


async def create_another(writer: httpx2.AsyncClient, **changes: Any) -> dict[str, Any]:
    """Whatever there is already."""
    return await create(writer, **await valid_product(writer) | changes)


async def valid_product(writer: httpx2.AsyncClient) -> dict[str, Any]:
    return CHAIR | {"sku": f"CH-{uuid4().hex}"}


async def change_product(writer: httpx2.AsyncClient) -> dict[str, Any]:
    return {"name": "Stool", "price": "20.00"}


NAMES = ("Chair", "chair", "Desk", "desk", "Émile", "zebra", "Zoë", "100% wool", "a_b", "a")


def row(number: int, **values: Any) -> dict[str, Any]:
    choose = random.Random(number)  # noqa: S311 - the same rows every time
    return {
        "sku": f"S-{number}",
        "name": choose.choice(NAMES),
        "price": Decimal(choose.randrange(20)),
        "currency": choose.choice(("EUR", "USD", "JPY")),
        "stock": choose.randrange(5),
        "is_active": True,
        "owner_id": choose.choice((ALICE.id, BOB.id)),
        "description": choose.choice((None, "Text")),
    } | values


async def add(database: Database, rows: Sequence[dict[str, Any]]) -> None:
    """Many rows by one statement.

    Without `render_nulls`, each change from null to a value begins another INSERT.
    """
    async with database.transaction() as db:
        await db.execute(insert(Product), rows, execution_options={"render_nulls": True})
