"""Webhooks: their routes, a delivery to a real receiver, and the mail about one that was paused."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpx2
import pytest
from timberframe.schemas.webhook import WebhookDelivery
from timberframe.testing import run_jobs
from timberframe.testing.routes import HIDDEN_OWNER, PAGE, Resource, Route
from timberframe.testing.subject import app

from app.crud import webhook_crud
from tests.factories.webhooks import change_webhook, create_webhook, new_delivery, valid_webhook

WEBHOOK = "/webhooks/{webhook_id}"
DELIVERY = frozenset(WebhookDelivery.model_fields)
RESOURCE = Resource(
    "/webhooks/",
    "webhook_id",
    "owner",
    create=create_webhook,
    valid=valid_webhook,
    change=change_webhook,
    takes=frozenset({"description", "is_active"}),
    read_only=frozenset({"paused_at", "pause_reason"}),
    shown_once=frozenset({"secret"}),
    further=(
        Route(
            "POST",
            f"{WEBHOOK}/secret",
            HIDDEN_OWNER,
            shows=frozenset({"secret", "previous_secret_until"}),
        ),
        Route("GET", f"{WEBHOOK}/deliveries", HIDDEN_OWNER, shows=DELIVERY | PAGE),
        Route(
            "POST",
            f"{WEBHOOK}/deliveries/{{delivery_id}}/redeliver",
            HIDDEN_OWNER,
            202,
            shows=frozenset({"message"}),
            makes={"delivery_id": new_delivery},
        ),
    ),
)


class Target:
    """What a server took in, which answers with `status`."""

    def __init__(self) -> None:
        self.url, self.status = "", 200
        self.bodies: list[Any] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
        self.bodies.append(json.loads(await reader.readexactly(length)))
        writer.write(f"HTTP/1.1 {self.status} X\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()
        writer.close()


@pytest.fixture
async def target(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Target]:
    local = replace(webhook_crud.options, allowed_networks=(ip_network("127.0.0.0/8"),))
    monkeypatch.setattr(webhook_crud, "options", local)
    target = Target()
    server = await asyncio.start_server(target.serve, "127.0.0.1", 0)
    target.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    yield target
    server.close()


async def deliver() -> None:
    """What a worker does by itself once there are new events."""
    state = app().state
    await state.jobs["dispatch_webhooks"].enqueue(state.database)
    await run_jobs()


async def test_change_is_delivered(alice: httpx2.AsyncClient, target: Target) -> None:
    webhook = await create_webhook(alice, url=target.url, events=["user.updated"])
    changed = (await alice.patch("/users/me", json={"full_name": "Alice Archer"})).json()
    await deliver()
    [body] = target.bodies
    assert body == {"type": "user.updated", "timestamp": body["timestamp"], "data": changed}
    [delivery] = (await alice.get(f"/webhooks/{webhook['id']}/deliveries")).json()["items"]
    assert (delivery["status"], delivery["http_status"]) == ("delivered", 200)


async def test_owner_is_told_when_their_webhook_is_paused(
    alice: httpx2.AsyncClient, target: Target, outbox: Path
) -> None:
    await create_webhook(alice, url=target.url, events=["user.updated"])
    target.status = 410
    await alice.patch("/users/me", json={"full_name": "Alice Archer"})
    await deliver()
    [file] = outbox.iterdir()
    message = file.read_text()
    assert "To: alice@example.com" in message
    assert "Your webhook 1 was paused" in message
    assert "The target answered 410" in message
    assert target.url not in message
