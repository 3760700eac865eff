"""Deliveries to real receivers: what they get, in what order, and what happens when they fail."""

import asyncio
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import httpx2
import pytest
from sqlalchemy import func, select, update
from sqlalchemy.event import listen
from standardwebhooks import Webhook as Verifier
from standardwebhooks import WebhookVerificationError
from structlog.testing import capture_logs

from specimen import webhooks as declared
from specimen.crud import webhook_crud
from specimen.factories import add, create, create_another, create_webhook, row
from specimen.models import Product, User, Webhook
from specimen.receivers import Received, Receiver
from specimen.workers import working
from timberframe.crud.events import latest_event
from timberframe.data.base import utc_now
from timberframe.data.events import Event, purge_events
from timberframe.data.session import Database
from timberframe.data.unit_of_work import UnitOfWork
from timberframe.jobs import Run
from timberframe.jobs.models import JobRecord
from timberframe.jobs.worker import JobOptions, Worker
from timberframe.testing import ALICE, BOB
from timberframe.testing.jobs import run_jobs
from timberframe.testing.subject import app
from timberframe.webhooks import delivery
from timberframe.webhooks.delivery import Courier

PRODUCT_EVENTS = ["product.created", "product.updated", "product.deleted", "product.restored"]
Client = httpx2.AsyncClient


async def subscribe(client: Client, receiver: Receiver, *events: str, **changes: Any) -> Any:
    types = list(events or PRODUCT_EVENTS)
    return await create_webhook(client, url=receiver.url, events=types, **changes)


async def deliver(database: Database) -> list[str]:
    """Do what a worker does once there are new events; return the names of the jobs."""
    await declared.dispatch_webhooks.enqueue(database)
    with capture_logs() as logs:
        await run_jobs()
    ended = [line for line in logs if line["event"].startswith("job_")]
    assert {line["event"] for line in ended} == {"job_done"}, logs
    return [line["job"] for line in ended]


async def make_due(database: Database) -> None:
    async with database.transaction() as db:
        await db.execute(update(JobRecord).values(run_at=utc_now() - timedelta(seconds=1)))


async def seconds_to_retry(database: Database) -> float:
    waiting = select(JobRecord.run_at).where(JobRecord.status == "queued")
    async with database.reading() as db:
        run_at: datetime = (await db.scalars(waiting)).one()
    return (run_at - utc_now()).total_seconds()


async def stored(database: Database, id: int = 1) -> Webhook:
    async with database.reading() as db:
        return await db.get_one(Webhook, id)


async def change(database: Database, model: Any, **values: Any) -> None:
    async with database.transaction() as db:
        await db.execute(update(model).values(values))


async def deliveries(client: Client, webhook: Any) -> list[Any]:
    answer = await client.get(f"/webhooks/{webhook['id']}/deliveries")
    assert answer.status_code == 200, answer.text
    items: list[Any] = answer.json()["items"]
    return items


async def test_change_is_delivered_and_verified_by_the_reference_library(
    alice: Client, database: Database, receiver: Receiver
) -> None:
    webhook = await subscribe(alice, receiver)
    product = await create(alice, description="“Ä”\n\\")
    await alice.patch(f"/products/{product['id']}", json={"price": "5.00"})
    changed = (await alice.get(f"/products/{product['id']}")).json()
    await deliver(database)
    created, updated = receiver.received
    for each, type_, data in (
        (created, "product.created", product),
        (updated, "product.updated", changed),
    ):
        body = Verifier(webhook["secret"]).verify(each.body, each.headers)
        assert body == {"type": type_, "timestamp": body["timestamp"], "data": data}
        assert each.headers["content-type"] == "application/json"
    first, second = await deliveries(alice, webhook)
    assert first == {
        "id": first["id"],
        "webhook_id": webhook["id"],
        "event_id": created.event_id,
        "type": "product.created",
        "status": "delivered",
        "attempts": 1,
        "http_status": 200,
        "error": None,
        "answer": "ok",
        "duration_ms": first["duration_ms"],
        "created_at": first["created_at"],
        "attempted_at": first["created_at"],
    }
    assert second["event_id"] == updated.event_id
    # The control: what was sent with another secret is refused.
    other = (await subscribe(alice, receiver))["secret"]
    with pytest.raises(WebhookVerificationError):
        Verifier(other).verify(created.body, created.headers)


async def test_webhook_gets_what_comes_after_it_and_only_its_types(
    alice: Client, database: Database, receiver: Receiver
) -> None:
    product = await create_another(alice)
    await subscribe(alice, receiver, "product.deleted", "user.updated")
    await create_another(alice)
    await alice.patch("/users/me", json={"full_name": "Alice Archer"})
    await alice.delete(f"/products/{product['id']}")
    await deliver(database)
    assert receiver.types == ["user.updated", "product.deleted"]
    assert receiver.event_ids == sorted(receiver.event_ids)


async def write_products(client: Client, count: int) -> None:
    for _ in range(count):
        product = await create_another(client)
        await client.patch(f"/products/{product['id']}", json={"stock": 1})


async def test_order_holds_with_several_workers_and_writers(
    alice: Client, bob: Client, database: Database, receiver: Receiver
) -> None:
    await subscribe(alice, receiver)
    async with working(database), working(database):
        await asyncio.gather(*(write_products(client, 10) for client in (alice, bob, alice)))
        await receiver.until(60)
    assert receiver.event_ids == sorted(set(receiver.event_ids))
    assert len(receiver.received) == 60
    assert receiver.most_at_once == 1


async def test_control_deliveries_side_by_side_repeat_events(
    alice: Client, database: Database, receiver: Receiver
) -> None:
    """Without the key, by which one of a webhook runs at a time."""

    async def pause(_: Received) -> None:
        await asyncio.sleep(0.02)

    receiver.before = pause
    webhook = await subscribe(alice, receiver)
    await write_products(alice, 3)
    for _ in range(2):
        await declared.deliver_webhook.enqueue(database, webhook_id=webhook["id"])
    async with working(database):
        await receiver.until(7)
    assert len(set(receiver.event_ids)) < len(receiver.received)
    assert receiver.most_at_once > 1
    # But the position never goes back, and ends where it should.
    assert (await stored(database)).position == await latest_event(database)


async def test_failed_event_is_tried_again_before_later_ones(
    alice: Client, database: Database, receiver: Receiver
) -> None:
    webhook = await subscribe(alice, receiver)
    receiver.statuses = [200, 500, 302]
    for _ in range(3):
        await create_another(alice)
    await deliver(database)
    assert len(receiver.received) == 2
    assert 11 < await seconds_to_retry(database) < 19
    await deliver(database)
    assert len(receiver.received) == 2  # it waits, and new events do not wake it
    await make_due(database)
    await run_jobs()
    assert 22 < await seconds_to_retry(database) < 38
    await make_due(database)
    await run_jobs()
    first, second, third = sorted(set(receiver.event_ids))
    assert receiver.event_ids == [first, second, second, second, third]
    assert len({each.headers["webhook-id"] for each in receiver.received}) == 3
    found = await deliveries(alice, webhook)
    assert [(each["status"], each["attempts"]) for each in found] == [
        *(("delivered", 1), ("delivered", 3), ("delivered", 1))
    ]
    assert (await stored(database)).failures == 0


def test_attempts_at_an_event_take_a_little_more_than_a_day() -> None:
    job = declared.deliver_webhook
    waits = [job.backoff_after(failures) for failures in range(1, job.max_attempts)]
    assert 20 * 3600 < sum(waits) < 33 * 3600  # a random quarter more or less
    assert max(waits) < 8 * 3600


async def fail_until_paused(client: Client, database: Database, receiver: Receiver) -> None:
    await create_another(client)
    await change(database, Webhook, failures=declared.deliver_webhook.max_attempts - 1)
    receiver.statuses = [500]
    assert "note_pause" in await deliver(database)


async def test_webhook_that_failed_for_a_day_is_paused_and_continues_where_it_stopped(
    alice: Client, database: Database, receiver: Receiver
) -> None:
    webhook = await subscribe(alice, receiver)
    path = f"/webhooks/{webhook['id']}"
    before = await alice.get(path)
    await fail_until_paused(alice, database, receiver)
    paused = await alice.get(path, headers={"If-None-Match": before.headers["etag"]})
    assert paused.status_code == 200
    assert (paused.json()["is_active"], paused.json()["pause_reason"]) == (
        *(False, "The target answered 500"),
    )
    assert paused.json()["paused_at"]
    await create_another(alice)
    await deliver(database)
    assert len(receiver.received) == 1
    continued = (await alice.patch(path, json={"is_active": True})).json()
    assert (continued["paused_at"], continued["pause_reason"]) == (None, None)
    await run_jobs()
    failed, again, later = receiver.event_ids
    assert failed == again < later


async def test_failure_after_a_pause_is_the_first(
    alice: Client, database: Database, receiver: Receiver
) -> None:
    webhook = await subscribe(alice, receiver)
    await fail_until_paused(alice, database, receiver)
    receiver.statuses = [500]
    await alice.patch(f"/webhooks/{webhook['id']}", json={"is_active": True})
    await run_jobs()
    assert (await stored(database)).is_active
    assert 11 < await seconds_to_retry(database) < 19


async def test_target_that_is_gone_pauses_at_once(
    alice: Client, database: Database, receiver: Receiver
) -> None:
    await subscribe(alice, receiver)
    receiver.statuses = [410]
    await create_another(alice)
    assert "note_pause" in await deliver(database)
    assert not (await stored(database)).is_active


async def test_new_url_and_activation_end_the_wait(
    alice: Client, database: Database, receiver: Receiver, other_receiver: Receiver
) -> None:
    webhook = await subscribe(alice, receiver)
    receiver.statuses = [500, 500]
    await create_another(alice)
    await deliver(database)
    assert await run_jobs() == []
    await alice.patch(f"/webhooks/{webhook['id']}", json={"is_active": True})
    await run_jobs()
    assert len(receiver.received) == 2
    await alice.patch(f"/webhooks/{webhook['id']}", json={"url": other_receiver.url})
    await run_jobs()
    assert other_receiver.event_ids == receiver.event_ids[:1]


async def test_change_during_an_attempt_is_not_undone_by_its_failure(
    alice: Client, database: Database, receiver: Receiver
) -> None:
    """The last attempt is under way when its owner asks for another: it must not pause."""
    webhook = await subscribe(alice, receiver)

    async def activate(_: Received) -> None:
        receiver.before = None
        answer = await alice.patch(f"/webhooks/{webhook['id']}", json={"is_active": True})
        assert answer.status_code == 200

    receiver.before = activate
    receiver.statuses = [500]
    await create_another(alice)
    await change(database, Webhook, failures=declared.deliver_webhook.max_attempts - 1)
    await deliver(database)
    assert len(receiver.received) == 2
    assert (await stored(database)).is_active


async def test_deleted_webhook_gets_nothing_more(
    alice: Client, database: Database, receiver: Receiver
) -> None:
    webhook = await subscribe(alice, receiver)

    async def remove(_: Received) -> None:
        assert (await alice.delete(f"/webhooks/{webhook['id']}")).status_code == 204

    receiver.before = remove
    for _ in range(2):
        await create_another(alice)
    await deliver(database)
    assert len(receiver.received) == 1


async def test_both_secrets_sign_for_a_day(
    alice: Client, database: Database, receiver: Receiver
) -> None:
    webhook = await subscribe(alice, receiver)
    answer = await alice.post(f"/webhooks/{webhook['id']}/secret")
    assert answer.status_code == 200, answer.text
    new = answer.json()["secret"]
    until = datetime.fromisoformat(answer.json()["previous_secret_until"])
    assert timedelta(hours=23) < until - utc_now() < timedelta(hours=25)
    await create_another(alice)
    await deliver(database)
    await change(database, Webhook, previous_secret_until=utc_now() - timedelta(seconds=1))
    await create_another(alice)
    await deliver(database)
    during, afterwards = receiver.received
    for secret in (webhook["secret"], new):
        assert Verifier(secret).verify(during.body, during.headers)
    assert Verifier(new).verify(afterwards.body, afterwards.headers)
    with pytest.raises(WebhookVerificationError):
        Verifier(webhook["secret"]).verify(afterwards.body, afterwards.headers)


async def redeliver(client: Client, webhook: Any, delivery_id: int) -> httpx2.Response:
    return await client.post(f"/webhooks/{webhook['id']}/deliveries/{delivery_id}/redeliver")


async def test_event_is_delivered_again_by_hand(
    alice: Client, database: Database, receiver: Receiver
) -> None:
    webhook = await subscribe(alice, receiver)
    for _ in range(2):
        await create_another(alice)
    await deliver(database)
    position = (await stored(database)).position
    first, _ = await deliveries(alice, webhook)
    for _ in range(2):  # at once: one job does for both
        assert (await redeliver(alice, webhook, first["id"])).status_code == 202
    await run_jobs()
    assert receiver.received[2].headers["webhook-id"] == receiver.received[0].headers["webhook-id"]
    assert receiver.received[2].body == receiver.received[0].body
    assert len(receiver.received) == 3
    assert (await deliveries(alice, webhook))[0]["attempts"] == 2
    assert (await stored(database)).position == position


async def test_event_that_was_delivered_by_hand_is_not_repeated(
    alice: Client, database: Database, receiver: Receiver
) -> None:
    webhook = await subscribe(alice, receiver)
    receiver.statuses = [500]
    for _ in range(2):
        await create_another(alice)
    await deliver(database)
    [failed] = await deliveries(alice, webhook)
    await redeliver(alice, webhook, failed["id"])
    await run_jobs()
    await make_due(database)
    await run_jobs()
    first, again, second = receiver.event_ids
    assert first == again < second


async def test_delivery_goes_with_its_event(
    alice: Client, database: Database, receiver: Receiver
) -> None:
    webhook = await subscribe(alice, receiver)
    await create_another(alice)
    await deliver(database)
    [found] = await deliveries(alice, webhook)
    await change(database, Event, created_at=utc_now() - timedelta(days=8))
    async with database.transaction() as db:
        await purge_events(db, days=7)
    assert await deliveries(alice, webhook) == []
    answer = await redeliver(alice, webhook, found["id"])
    assert (answer.status_code, answer.json()["detail"]) == (404, "Delivery not found")


async def test_hidden_rows_are_not_delivered(
    alice: Client, bob: Client, database: Database, receiver: Receiver
) -> None:
    """Neither what was hidden at the time, nor what is hidden now; the owner gets both."""
    await subscribe(alice, receiver)
    theirs = await create_another(bob)
    await create_another(bob, is_active=False)
    await bob.patch(f"/products/{theirs['id']}", json={"is_active": False})
    own = await create_another(alice, is_active=False)
    await deliver(database)
    assert [each.data["id"] for each in receiver.received] == [own["id"]]


async def test_what_may_no_longer_be_read_is_not_delivered_again(
    alice: Client, bob: Client, database: Database, receiver: Receiver
) -> None:
    webhook = await subscribe(alice, receiver)
    product = await create_another(bob)
    await deliver(database)
    await bob.patch(f"/products/{product['id']}", json={"is_active": False})
    [found] = await deliveries(alice, webhook)
    await redeliver(alice, webhook, found["id"])
    await run_jobs()
    assert len(receiver.received) == 1
    [found] = await deliveries(alice, webhook)
    assert found["error"] == "You may no longer read what the event is about"


async def test_demoted_superuser_gets_what_others_get(
    admin: Client, bob: Client, database: Database, receiver: Receiver
) -> None:
    await change(database, User, is_superuser=True)
    await subscribe(admin, receiver)
    hidden = await create_another(bob, is_active=False)
    await deliver(database)
    await change(database, User, is_superuser=False)
    await bob.patch(f"/products/{hidden['id']}", json={"stock": 5})
    shown = await create_another(bob)
    await deliver(database)
    assert [each.data["id"] for each in receiver.received] == [hidden["id"], shown["id"]]


async def test_disabled_account_gets_nothing_until_it_is_enabled(
    alice: Client, bob: Client, database: Database, receiver: Receiver
) -> None:
    webhook = await subscribe(alice, receiver)
    await change(database, User, is_active=False)
    async with database.transaction() as db:
        db.add(Product(**row(1, owner_id=BOB.id)))
    assert await deliver(database) == ["dispatch_webhooks"]
    await declared.deliver_webhook.enqueue(database, webhook_id=webhook["id"])
    await run_jobs()
    assert receiver.received == []
    await change(database, User, is_active=True)
    await deliver(database)
    assert receiver.types == ["product.created"]


async def test_rights_lost_between_two_deliveries_count_after_seconds(
    admin: Client,
    bob: Client,
    database: Database,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The events of a run are read at its start; it ends after `BATCH_SECONDS`."""
    monkeypatch.setattr(delivery, "BATCH_SECONDS", 0)
    await subscribe(admin, receiver)
    for _ in range(3):
        await create_another(bob, is_active=False)

    async def demote(_: Received) -> None:
        await change(database, User, is_superuser=False)

    receiver.before = demote
    await deliver(database)
    assert len(receiver.received) == 1


async def test_events_of_others_cost_an_idle_webhook_nothing(
    alice: Client, database: Database, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No job, and no write, until the position is far behind."""
    monkeypatch.setattr(delivery, "LEFT_BEHIND", 50)
    webhook = await subscribe(alice, receiver, "user.updated")
    before = await stored(database)
    await add(database, [row(number) for number in range(20)])
    assert await deliver(database) == ["dispatch_webhooks"]
    assert (await stored(database)).position == before.position
    await add(database, [row(number) for number in range(100, 100 + delivery.LEFT_BEHIND)])
    assert await deliver(database) == ["dispatch_webhooks"]
    after = await alice.get(f"/webhooks/{webhook['id']}")
    assert (await stored(database)).position == await latest_event(database)
    assert after.headers["etag"] == '"1"'
    assert after.json()["updated_at"] == webhook["updated_at"]


async def test_one_event_is_one_write_of_each_row(
    alice: Client, database: Database, receiver: Receiver
) -> None:
    await subscribe(alice, receiver)
    await create_another(alice)
    writes: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *_: object) -> None:
        if not statement.startswith("SELECT"):
            writes.append(" ".join(statement.split()[:3]))

    listen(database.engine.sync_engine, "before_cursor_execute", note)
    await deliver(database)
    counted = Counter(each for each in writes if "webhook" in each)
    assert counted == {"UPDATE webhooks SET": 1, "INSERT INTO webhook_deliveries": 1}


async def test_webhook_far_behind_catches_up(
    alice: Client, database: Database, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over several runs, most of which find nothing for it."""
    monkeypatch.setattr(delivery, "LOOKED_BACK", 100)
    monkeypatch.setattr(delivery, "SCANNED", 50)
    await subscribe(alice, receiver, "product.deleted")
    product = await create_another(alice)
    await alice.delete(f"/products/{product['id']}")
    others = range(delivery.LOOKED_BACK + 10)
    await add(database, [row(number, owner_id=ALICE.id) for number in others])
    assert (await alice.delete(f"/products/{product['id'] + 1}")).status_code == 204
    assert (await deliver(database)).count("deliver_webhook") >= 3
    assert receiver.types == ["product.deleted"] * 2
    assert (await stored(database)).position == await latest_event(database)


async def test_secret_and_url_are_nowhere_else(
    alice: Client, database: Database, receiver: Receiver
) -> None:
    with capture_logs() as logs:
        webhook = await subscribe(alice, receiver)
        receiver.statuses = [500]
        await create_another(alice)
        await declared.dispatch_webhooks.enqueue(database)
        await run_jobs()
        await make_due(database)
        await run_jobs()
    async with database.reading() as db:
        jobs = str((await db.execute(select(JobRecord.__table__))).all())
        shown = repr(await db.get(Webhook, webhook["id"]))
    answers = [await alice.get(f"/webhooks/{path}") for path in ("", webhook["id"])]
    answers.append(await alice.get(f"/webhooks/{webhook['id']}/deliveries"))
    answers.append(await alice.patch(f"/webhooks/{webhook['id']}", json={"is_active": True}))
    places = [str(logs), jobs, shown, *(answer.text for answer in answers)]
    assert [place for place in places if "whsec_" in place or webhook["secret"] in place] == []
    assert [place for place in places[:3] if "quiet" in place] == []
    assert "webhook_failed" in str(logs)


async def test_answers_of_targets_are_bounded_text(
    alice: Client, database: Database, receiver: Receiver
) -> None:
    webhook = await subscribe(alice, receiver)
    receiver.text = b"<script>\x1b[31m\x00\xff\r\n\xe2\x80\xae" + b"x" * 10_000
    receiver.statuses = [500]
    await create_another(alice)
    await deliver(database)
    [found] = await deliveries(alice, webhook)
    assert found["answer"].startswith("<script>�[31m��\n�xxx")
    assert len(found["answer"]) == 1000


async def test_worker_tells_of_new_events_by_itself(
    alice: Client, database: Database, receiver: Receiver
) -> None:
    await subscribe(alice, receiver)
    async with working(database):
        for count in (1, 2):
            await create_another(alice)
            await receiver.until(count, seconds=10)


async def delivered_with_one_at_the_end(
    alice: Client, database: Database, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> int:
    """How many of two events: the second comes between the job's last look and its commit."""
    await subscribe(alice, receiver)
    look = Courier._has_more
    others: list[asyncio.Task[None]] = []

    async def create_and_dispatch() -> None:
        await create_another(alice)
        await delivery.dispatch(database, webhook_crud, declared.deliver_webhook)

    async def look_and_wait(self: Courier, *arguments: Any, **options: Any) -> bool:
        found = await look(self, *arguments, **options)
        if not others:
            others.append(asyncio.create_task(create_and_dispatch()))
            await asyncio.sleep(0.3)
        return found

    monkeypatch.setattr(Courier, "_has_more", look_and_wait)
    await create_another(alice)
    await deliver(database)
    await others[0]
    await run_jobs()
    return len(receiver.received)


async def test_event_between_the_last_look_and_the_commit_is_delivered(
    alice: Client, database: Database, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever enqueues another delivery waits for the commit, since the job is marked as done."""
    assert await delivered_with_one_at_the_end(alice, database, receiver, monkeypatch) == 2


@pytest.mark.parametrize("engine", ["postgresql"])  # SQLite has one writer at a time
async def test_control_event_is_lost_if_the_job_ends_after_its_last_look(
    alice: Client, database: Database, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver_next = Courier._deliver_next

    async def deliver_and_finish_late(self: Courier, run: Run, *arguments: Any) -> None:
        calls = iter((pass_by, Run.finish))

        async def finish(db: UnitOfWork) -> None:
            await next(calls)(run, db)

        monkeypatch.setattr(run, "finish", finish)
        await deliver_next(self, run, *arguments)

    monkeypatch.setattr(Courier, "_deliver_next", deliver_and_finish_late)
    assert await delivered_with_one_at_the_end(alice, database, receiver, monkeypatch) == 1


async def pass_by(run: Run, db: UnitOfWork) -> None:
    pass


async def delivered_after_activation(
    alice: Client, database: Database, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> int:
    """A webhook is made active while a job runs that has read it as inactive."""
    webhook = await subscribe(alice, receiver, is_active=False)
    await create_another(alice)
    find = Courier._find

    async def find_and_activate(self: Courier, *arguments: Any) -> Any:
        found = await find(self, *arguments)
        path = f"/webhooks/{webhook['id']}"
        assert (await alice.patch(path, json={"is_active": True})).status_code == 200
        monkeypatch.setattr(Courier, "_find", find)
        return found

    monkeypatch.setattr(Courier, "_find", find_and_activate)
    key = str(webhook["id"])
    await declared.deliver_webhook.set(key=key).enqueue(database, webhook_id=webhook["id"])
    await run_jobs()
    return len(receiver.received)


async def test_activation_while_a_job_ends_is_noticed(
    alice: Client, database: Database, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await delivered_after_activation(alice, database, receiver, monkeypatch) == 1


async def test_control_job_that_does_not_look_again_misses_the_activation(
    alice: Client, database: Database, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stay(*_: object, **__: object) -> None:
        pass

    monkeypatch.setattr(Courier, "_end", stay)
    assert await delivered_after_activation(alice, database, receiver, monkeypatch) == 0


async def conflicts_of_change_at_the_end(
    alice: Client, database: Database, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> int:
    """How often the end of a job and a change of its webhook at that time are tried in vain."""
    webhook = await subscribe(alice, receiver)
    await create_another(alice)
    finish, changes = Run.finish, list[asyncio.Task[httpx2.Response]]()

    async def finish_and_wait(self: Run, db: UnitOfWork) -> None:
        await finish(self, db)
        if receiver.received and not changes:
            change = alice.patch(f"/webhooks/{webhook['id']}", json={"is_active": True})
            changes.append(asyncio.create_task(change))
            await asyncio.sleep(0.2)

    monkeypatch.setattr(Run, "finish", finish_and_wait)
    key = str(webhook["id"])
    await declared.deliver_webhook.set(key=key).enqueue(database, webhook_id=webhook["id"])
    with capture_logs() as logs:
        await run_jobs()
        assert (await changes[0]).status_code == 200
    return sum(line["event"] in ("transaction_conflict", "job_failed") for line in logs)


async def test_change_and_end_of_a_job_do_not_wait_for_each_other(
    alice: Client, database: Database, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await conflicts_of_change_at_the_end(alice, database, receiver, monkeypatch) == 0
    assert len(receiver.received) == 1


@pytest.mark.parametrize("engine", ["postgresql"])  # SQLite has one writer at a time
async def test_control_job_that_locks_its_webhook_last_is_a_deadlock(
    alice: Client, database: Database, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = Courier._lock

    async def look_only(self: Courier, db: UnitOfWork, webhook_id: int) -> Any:
        async with database.transaction() as other:
            return await lock(self, other, webhook_id)

    monkeypatch.setattr(Courier, "_lock", look_only)
    assert await conflicts_of_change_at_the_end(alice, database, receiver, monkeypatch) > 0


async def test_job_on_events_is_enqueued_again_while_its_key_is_taken(
    alice: Client, database: Database, local_targets: None
) -> None:
    """At the start of a worker, and for a new event: if one waits already, once it is gone."""
    worker = Worker(database, app().state.jobs, JobOptions())

    async def look() -> int:
        await worker._enqueue_on_events()
        async with database.reading() as db:
            return await db.scalar(select(func.count()).select_from(JobRecord)) or 0

    assert [await look(), await look()] == [1, 1]
    await create_another(alice)
    assert await look() == 1  # one waits
    await run_jobs()
    assert [await look(), await look()] == [1, 1]
    await run_jobs()
    assert await look() == 0
