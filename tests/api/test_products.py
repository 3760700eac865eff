"""Products over HTTP."""

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from sqlalchemy import insert
from timberframe.data.session import Database

from app.models import Product

CHAIR: dict[str, Any] = {"sku": "CH-1", "name": "Chair", "price": "19.90"}


async def create(owner: httpx2.AsyncClient, **changes: Any) -> dict[str, Any]:
    answer = await owner.post("/products/", json=CHAIR | changes)
    assert answer.status_code == 201, answer.text
    product: dict[str, Any] = answer.json()
    return product


async def create_another(owner: httpx2.AsyncClient) -> dict[str, Any]:
    """Whatever there is already."""
    return await create(owner, sku=f"CH-{uuid4().hex}")


async def add(database: Database, rows: Sequence[dict[str, Any]]) -> None:
    """Many rows at once; without `render_nulls`, each change from null to a value begins another
    INSERT.
    """
    async with database.transaction() as db:
        await db.execute(insert(Product), rows, execution_options={"render_nulls": True})


async def test_created_product_belongs_to_its_creator(alice: httpx2.AsyncClient) -> None:
    answer = await alice.post("/products/", json=CHAIR)
    product = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/api/v1/products/{product['id']}"
    assert product == CHAIR | {
        "id": product["id"],
        "description": None,
        "currency": "EUR",
        "stock": 0,
        "is_active": True,
        "category": None,
        "tags": [],
        "owner_id": 1,
        "created_at": product["created_at"],
        "updated_at": product["created_at"],
    }


async def test_duplicate_sku_is_refused(alice: httpx2.AsyncClient, bob: httpx2.AsyncClient) -> None:
    await create(alice)
    answer = await bob.post("/products/", json=CHAIR)
    assert answer.status_code == 400
    assert answer.json()["detail"] == "Product with this sku already exists"


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ("0", "0.00"),
        ("5", "5.00"),
        ("0.1", "0.10"),
        (0.1, "0.10"),
        (-0.0, "0.00"),
        (7, "7.00"),
        ("9999999999.99", "9999999999.99"),
        (9999999999.99, "9999999999.99"),
    ],
)
async def test_price_is_exact(alice: httpx2.AsyncClient, sent: object, stored: str) -> None:
    product = await create(alice, price=sent)
    assert product["price"] == stored
    answer = await alice.get(f"/products/{product['id']}")
    assert answer.json() == product


BAD_TEXT = ("-1", "-0", "1.999", "1e3", "10000000000", "NaN", "", " 1", "١", "9" * 5000)
BAD_VALUES: tuple[object, ...] = (1e10, 1e308, 0.001, -0.01, True, None, [], {})


@pytest.mark.parametrize("price", [*BAD_TEXT, *BAD_VALUES])
async def test_wrong_price_is_refused(alice: httpx2.AsyncClient, price: object) -> None:
    answer = await alice.post("/products/", json=CHAIR | {"price": price})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["loc"] == ["body", "price"]
    assert (await alice.get("/products/")).json()["total"] == 0
