"""Webhooks for the tests, and what they are made of."""

from collections.abc import Mapping
from typing import Any

import httpx2
from sqlalchemy import select
from timberframe.data.events import Event
from timberframe.models import utc_now
from timberframe.testing import subject

from app.models import WebhookDelivery

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
    async with subject.app().state.database.transaction() as db:
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
        return int(delivery.id)
