"""Workers that deliver: killed between a call and its commit, and held up by targets that hang."""

import asyncio
from dataclasses import replace

import httpx2
import pytest
from sqlalchemy import select, update

from specimen.crud import webhook_crud
from specimen.delivering import MovesFirst, work
from specimen.factories import create_another, create_webhook
from specimen.models import Webhook, WebhookDelivery
from specimen.receivers import Received, Receiver, receiving
from specimen.workers import forked, working
from timberframe.crud.events import latest_event
from timberframe.data.session import Database
from timberframe.webhooks import delivery
from timberframe.webhooks.delivery import Courier

EVENTS = 6
KILLED_AT = 3


async def position(database: Database) -> int:
    async with database.reading() as db:
        return (await db.scalars(select(Webhook.position))).one()


async def deliver_and_kill(
    courier: type[Courier],
    alice: httpx2.AsyncClient,
    database: Database,
    url: str,
    receiver: Receiver,
) -> None:
    """Kill a worker whose call was received and not answered; let another one go on."""
    await create_webhook(alice, url=receiver.url, events=["product.created"])
    for _ in range(EVENTS):
        await create_another(alice)
    with forked(work, courier, url) as process:

        async def kill(_: Received) -> None:
            if len(receiver.received) == KILLED_AT:
                process.kill()
                raise ConnectionResetError

        receiver.before = kill
        await receiver.until(KILLED_AT)
    with forked(work, courier, url):
        await receiver.until(EVENTS)
        async with asyncio.timeout(60):
            while await position(database) < await latest_event(database):  # noqa: ASYNC110
                await asyncio.sleep(0.02)


@pytest.mark.seconds(3)
async def test_worker_killed_before_the_commit_loses_nothing(
    alice: httpx2.AsyncClient, database: Database, database_url: str, receiver: Receiver
) -> None:
    """The event comes again with the same id, and all come in their order."""
    await deliver_and_kill(Courier, alice, database, database_url, receiver)
    ids = receiver.event_ids
    assert ids == sorted(ids)
    assert len(set(ids)) == EVENTS
    assert ids[KILLED_AT - 1] == ids[KILLED_AT]
    assert len(ids) == EVENTS + 1
    assert receiver.received[KILLED_AT - 1].body == receiver.received[KILLED_AT].body


@pytest.mark.seconds(2)
@pytest.mark.parametrize("engine", ["sqlite"])  # the fault does not depend on it
async def test_control_worker_that_commits_first_loses_what_was_not_answered(
    alice: httpx2.AsyncClient, database: Database, database_url: str, receiver: Receiver
) -> None:
    await deliver_and_kill(MovesFirst, alice, database, database_url, receiver)
    assert receiver.event_ids == sorted(set(receiver.event_ids))  # it was not tried again


async def hang(_: Received) -> None:
    await asyncio.sleep(3600)


async def failed_before(
    alice: httpx2.AsyncClient, database: Database, receiver: Receiver, *, failures: int, slots: int
) -> int:
    """How many of three calls that hang have ended when a fourth webhook gets its event."""
    async with receiving() as hanging:
        hanging.before = hang
        for _ in range(3):
            await create_webhook(alice, url=hanging.url, events=["user.updated"])
        async with database.transaction() as db:
            await db.execute(update(Webhook).values(failures=failures))
        await create_webhook(alice, url=receiver.url, events=["product.created"])
        await alice.patch("/users/me", json={"full_name": "Alice Archer"})
        async with working(database, concurrency=slots, grace=0):
            await hanging.until(min(3, delivery.MAX_RETRYING) if failures else 3)
            await create_another(alice)
            await receiver.until(1)
            async with database.reading() as db:
                failed = WebhookDelivery.status == "failed"
                return len((await db.scalars(select(WebhookDelivery.id).where(failed))).all())


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch, local_targets: None) -> None:
    """A call that gets no answer takes four seconds."""
    monkeypatch.setattr(webhook_crud, "options", replace(webhook_crud.options, timeout=4))


async def test_target_that_hangs_delays_no_other(
    alice: httpx2.AsyncClient, database: Database, receiver: Receiver, slow: None
) -> None:
    assert await failed_before(alice, database, receiver, failures=0, slots=6) == 0


@pytest.mark.parametrize("engine", ["sqlite"])  # the fault does not depend on it
async def test_control_targets_that_hang_delay_others_for_which_no_slot_is_left(
    alice: httpx2.AsyncClient,
    database: Database,
    receiver: Receiver,
    slow: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(delivery, "MAX_RETRYING", 3)
    monkeypatch.setattr(webhook_crud, "options", replace(webhook_crud.options, timeout=1))
    assert await failed_before(alice, database, receiver, failures=1, slots=3) > 0


async def test_targets_that_have_failed_before_leave_slots_to_others(
    alice: httpx2.AsyncClient, database: Database, receiver: Receiver, slow: None
) -> None:
    assert await failed_before(alice, database, receiver, failures=1, slots=3) == 0
