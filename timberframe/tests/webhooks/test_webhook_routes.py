"""Webhooks over HTTP: what may be subscribed to, which URLs are taken, and who sees what."""

import asyncio
import socket
import threading
from typing import Any

import httpx2
import pytest
from sqlalchemy import select

from specimen import webhooks as declared
from specimen.crud import CRUDWebhook, category_crud, webhook_crud
from specimen.factories import URL, create_another, create_webhook, new_delivery, valid_webhook
from specimen.models import Webhook
from specimen.receivers import Receiver
from timberframe.data.session import Database
from timberframe.errors import WrongDeclaration
from timberframe.http import webhooks as target_checks
from timberframe.http.exchange import Exchange
from timberframe.jobs.models import JobRecord
from timberframe.testing.jobs import run_jobs
from timberframe.webhooks import WebhookOptions

Client = httpx2.AsyncClient
PRIVATE = (
    "https://127.0.0.1/",
    "https://2130706433/",
    "https://[::ffff:10.0.0.1]/",
    "http://8.8.8.8/",
)


def errors_of(answer: httpx2.Response) -> tuple[int, Any, Any]:
    body = answer.json()
    return answer.status_code, body["code"], [each["loc"] for each in body["errors"]]


async def test_webhook_is_shown_with_its_secret_once(alice: Client) -> None:
    created = await alice.post("/webhooks/", json=await valid_webhook(alice))
    webhook = created.json()
    assert created.status_code == 201
    assert created.headers["location"] == f"/api/v1/webhooks/{webhook['id']}"
    secret = webhook.pop("secret")
    assert secret.startswith("whsec_")
    assert webhook == {
        "id": 1,
        "url": URL,
        "events": ["user.created"],
        "description": None,
        "is_active": True,
        "paused_at": None,
        "pause_reason": None,
        "owner_id": 1,
        "created_at": webhook["created_at"],
        "updated_at": webhook["created_at"],
    }
    read = await alice.get("/webhooks/1")
    assert (read.json(), read.headers["etag"]) == (webhook, created.headers["etag"])
    assert (await alice.get("/webhooks/")).json()["items"] == [webhook]


async def test_retry_gets_the_same_secret_and_makes_no_other_webhook(
    alice: Client, bob: Client
) -> None:
    key = {"Idempotency-Key": "one"}
    body = await valid_webhook(alice)
    first, again = [await alice.post("/webhooks/", json=body, headers=key) for _ in range(2)]
    assert (again.status_code, again.text) == (201, first.text)
    assert again.headers["idempotency-replayed"] == "true"
    assert (await alice.get("/webhooks/")).json()["total"] == 1
    others = await bob.post("/webhooks/", json=body, headers=key)
    assert others.json()["secret"] != first.json()["secret"]
    path = f"/webhooks/{first.json()['id']}/secret"
    new, again = [await alice.post(path, headers=key | {"Idempotency-Key": "two"}) for _ in "ab"]
    assert new.json()["secret"] == again.json()["secret"] != first.json()["secret"]


async def test_unknown_events_are_refused(alice: Client) -> None:
    webhook = await create_webhook(alice)
    for events in (["user.created", "user.restored"], ["stock_movement.created"], ["user.*"], [""]):
        for answer in (
            await alice.post("/webhooks/", json={"url": URL, "events": events}),
            await alice.patch(f"/webhooks/{webhook['id']}", json={"events": events}),
        ):
            assert errors_of(answer) == (422, "unknown_events", [["body", "events"]])
            assert "product.restored, product.updated, user.created" in answer.text
    answer = await alice.post("/webhooks/", json={"url": URL, "events": []})
    assert errors_of(answer) == (422, "invalid_input", [["body", "events"]])


async def test_targets_within_are_refused(alice: Client) -> None:
    webhook = await create_webhook(alice)
    path = f"/webhooks/{webhook['id']}"
    for url in PRIVATE:
        for answer in (
            await alice.post("/webhooks/", json={"url": url, "events": ["user.created"]}),
            await alice.patch(path, json={"url": url}),
            await alice.put(path, json=(await alice.get(path)).json() | {"url": url}),
        ):
            assert errors_of(answer) == (422, "url_refused", [["body", "url"]]), url
        assert (await alice.get(path)).json()["url"] == URL


async def test_allowed_target_is_taken_and_refused_when_it_is_called(
    alice: Client, database: Database, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the test above; the second check finds what has changed since the first."""
    webhook = await create_webhook(alice, url=receiver.url, events=["product.created"])
    await create_another(alice)
    with monkeypatch.context() as patch:
        patch.setattr(webhook_crud, "options", WebhookOptions(user_agent="specimen"))
        await declared.dispatch_webhooks.enqueue(database)
        await run_jobs()
    assert receiver.received == []
    [failed] = (await alice.get(f"/webhooks/{webhook['id']}/deliveries")).json()["items"]
    assert (failed["status"], failed["http_status"], failed["answer"]) == ("failed", None, None)
    assert failed["error"] == "The URL must be an https URL"
    await alice.patch(f"/webhooks/{webhook['id']}", json={"is_active": True})
    await run_jobs()
    assert receiver.types == ["product.created"]


async def others_could_write(
    alice: Client, bob: Client, monkeypatch: pytest.MonkeyPatch
) -> tuple[bool, int]:
    """Whether bob could write while the name of alice's new URL was looked up; alice's status."""
    webhook = await create_webhook(alice)
    began, may_end = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    look_up = socket.getaddrinfo

    def look_up_slowly(host: Any, *arguments: Any) -> Any:
        if host == "slow.example.com":
            loop.call_soon_threadsafe(began.set)
            may_end.wait(30)
            host = "8.8.8.8"
        return look_up(host, *arguments)

    monkeypatch.setattr(socket, "getaddrinfo", look_up_slowly)
    path, body = f"/webhooks/{webhook['id']}", {"url": "https://slow.example.com/"}
    change = asyncio.create_task(alice.patch(path, json=body))
    await began.wait()
    written = asyncio.create_task(bob.delete(path)), asyncio.create_task(create_another(bob))
    done, _ = await asyncio.wait(written, timeout=1.5)
    may_end.set()
    await asyncio.gather(*written, return_exceptions=True)
    return len(done) == 2, (await change).status_code


async def test_looking_up_a_name_holds_up_nobody(
    alice: Client, bob: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await others_could_write(alice, bob, monkeypatch) == (True, 200)


@pytest.mark.parametrize("engine", ["sqlite"])  # where others wait for the turn to write
async def test_control_name_that_is_looked_up_in_the_transaction_holds_up_others(
    alice: Client, bob: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target_checks, "exchange_of", lambda _: Exchange(""))  # without a body
    assert await others_could_write(alice, bob, monkeypatch) == (False, 200)


async def test_user_has_at_most_twenty(alice: Client, bob: Client) -> None:
    body = await valid_webhook(alice)
    answers = await asyncio.gather(*(alice.post("/webhooks/", json=body) for _ in range(25)))
    assert sorted(each.status_code for each in answers) == [201] * 20 + [409] * 5
    assert answers[-1].status_code == 201 or answers[-1].json()["code"] == "row_limit_reached"
    assert (await bob.post("/webhooks/", json=body)).status_code == 201


async def test_deliveries_of_others_are_not_reached_through_an_own_webhook(
    alice: Client, bob: Client, database: Database
) -> None:
    theirs, own = [await create_webhook(client) for client in (alice, bob)]
    delivery_id = await new_delivery({"webhook_id": theirs["id"]})
    path = f"/deliveries/{delivery_id}/redeliver"
    assert (await bob.post(f"/webhooks/{own['id']}{path}")).status_code == 404
    assert (await bob.post(f"/webhooks/{theirs['id']}{path}")).status_code == 404
    assert (await bob.get(f"/webhooks/{own['id']}/deliveries")).json()["items"] == []
    async with database.reading() as db:
        assert (await db.scalars(select(JobRecord))).all() == []
    assert (await alice.post(f"/webhooks/{theirs['id']}{path}")).status_code == 202


async def test_webhooks_go_with_their_owner(
    alice: Client, admin: Client, database: Database
) -> None:
    await new_delivery({"webhook_id": (await create_webhook(alice))["id"]})
    assert (await admin.delete("/users/1")).status_code == 204
    async with database.reading() as db:
        assert (await db.scalars(select(Webhook))).all() == []


def test_resource_without_events_cannot_be_subscribed_to() -> None:
    wrong = type("Wrong", (CRUDWebhook,), {"resources": (category_crud,)})
    with pytest.raises(WrongDeclaration, match="CRUDCategory has no events"):
        wrong(Webhook, webhook_crud.options)
