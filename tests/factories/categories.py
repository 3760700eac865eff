"""Categories for the tests, and what they are made of."""

from itertools import count
from typing import Any

import httpx2

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
