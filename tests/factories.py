"""Rows for the tests, and what they are made of."""

from itertools import count
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


CATEGORIES = "/categories/"
# For the values that no two rows share.
_NUMBERS = count(100)


async def valid_category(writer: httpx2.AsyncClient) -> dict[str, Any]:
    """The body of one more category, whatever there is already."""
    return {"slug": f"c-{next(_NUMBERS):06}", "name": "Chairs", "parent": None}


async def change_category(writer: httpx2.AsyncClient) -> dict[str, Any]:
    """Other values, which come later in every order."""
    return {"name": "Tables"}


async def create_category(writer: httpx2.AsyncClient, **changes: Any) -> dict[str, Any]:
    answer = await writer.post(CATEGORIES, json=await valid_category(writer) | changes)
    assert answer.status_code == 201, answer.text
    row: dict[str, Any] = answer.json()
    return row


async def create_chain(writer: httpx2.AsyncClient, *slugs: str) -> list[dict[str, Any]]:
    """Each below the one before."""
    parents = [None, *slugs]
    return [
        await create_category(writer, slug=slug, parent=parent)
        for slug, parent in zip(slugs, parents, strict=False)
    ]


async def move_category(writer: httpx2.AsyncClient, row: dict[str, Any], parent: str | None) -> Any:
    return await writer.patch(f"{CATEGORIES}{row['id']}", json={"parent": parent})


KATE: dict[str, Any] = {
    "email": "kate@example.com",
    "username": "kate",
    "full_name": "Kate",
    "password": "Kate-Pass-1",
}
EMAIL_TAKEN = "User with this email already exists"


async def sign_up(client: httpx2.AsyncClient, **changes: Any) -> dict[str, Any]:
    answer = await client.post("/users/", json=KATE | changes)
    assert answer.status_code == 201, answer.text
    user: dict[str, Any] = answer.json()
    return user


async def can_sign_in(client: httpx2.AsyncClient, username: str, password: str) -> bool:
    answer = await client.post("/auth/login", data={"username": username, "password": password})
    assert answer.status_code in (200, 401)
    return answer.status_code == 200
