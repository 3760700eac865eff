"""Rows for the tests."""

import random
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any
from uuid import uuid4

import httpx2
from sqlalchemy import insert, select

from specimen.models import Product, WebhookDelivery
from timberframe.data.base import utc_now
from timberframe.data.events import Event
from timberframe.data.session import Database
from timberframe.testing import ALICE, BOB, subject

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


# A public address: it is only looked at, since nothing is delivered unless a test does so.
URL = "https://8.8.8.8/hook"


async def valid_webhook(writer: httpx2.AsyncClient) -> dict[str, Any]:
    return {"url": URL, "events": ["user.created"]}


async def change_webhook(writer: httpx2.AsyncClient) -> dict[str, Any]:
    return {"url": f"{URL}/other", "events": ["user.updated"]}


async def create_webhook(writer: httpx2.AsyncClient, **changes: Any) -> dict[str, Any]:
    body = await valid_webhook(writer) | changes
    answer = await writer.post("/webhooks/", json=body)
    if answer.status_code == 409:  # they have as many as they may
        await delete_webhooks(writer)
        answer = await writer.post("/webhooks/", json=body)
    assert answer.status_code == 201, answer.text
    webhook: dict[str, Any] = answer.json()
    return webhook


async def delete_webhooks(owner: httpx2.AsyncClient) -> None:
    params = {"owner_id": (await owner.get("/users/me")).json()["id"]}
    for each in (await owner.get("/webhooks/", params=params)).json()["items"]:
        await owner.delete(f"/webhooks/{each['id']}")


async def new_delivery(ids: Mapping[str, int]) -> int:
    """A delivery to this webhook of the first event that there is, which is one of the cast's."""
    database: Database = subject.app().state.database
    async with database.transaction() as db:
        now, event = utc_now(), (await db.scalars(select(Event).limit(1))).one()
        delivery = WebhookDelivery(
            webhook_id=ids["webhook_id"],
            event_id=event.id,
            type=event.type,
            status="delivered",
            attempts=1,
            duration_ms=1,
            created_at=now,
            attempted_at=now,
        )
        db.add(delivery)
        await db.flush()
        return delivery.id
