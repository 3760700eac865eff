"""Products for the tests, and what they are made of."""

from typing import Any
from uuid import uuid4

import httpx2

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
    """The body of one more product, whatever there is already."""
    return CHAIR | {"sku": f"CH-{uuid4().hex}"}


async def change_product(writer: httpx2.AsyncClient) -> dict[str, Any]:
    """Other values, which come later in every order."""
    return {"name": "Stool", "price": "20.00"}
