"""The jobs of webhooks: they find out for whom there are new events, and deliver them in order.

An event is delivered once the target has answered 2xx and that is committed. A worker that dies in
between delivers it again, with the same `webhook-id`.
"""

import random
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

import structlog
from sqlalchemy import Table, exists, func, literal, select, update
from sqlalchemy.dialects import postgresql, sqlite

from timberframe.crud.events import SCANNED, EventRow, latest_event, read_events
from timberframe.crud.policy import Principal
from timberframe.data.base import utc_now
from timberframe.data.events import Event
from timberframe.data.session import Database
from timberframe.data.unit_of_work import UnitOfWork
from timberframe.jobs import Job, Run, job
from timberframe.webhooks.crud import Webhooks
from timberframe.webhooks.models import Subscription
from timberframe.webhooks.sending import DeliveryFailed, post
from timberframe.webhooks.signatures import signature_headers

MAX_ATTEMPTS = 15
BACKOFF = timedelta(seconds=15)  # the pauses between the attempts add up to 26 hours
BATCH_SECONDS = 5.0  # after which the rights of the owner are read again
MAX_RETRYING = 2  # in one worker: targets that hang must not take the place of others
LOOKED_BACK = 1000  # events; a webhook that is further behind gets a job without a look at them
LEFT_BEHIND = 500  # events that are not for it until a webhook's position is stored again
PAGE = 500
MAX_ANSWER = 1000
GONE = 410

# Controls but for line breaks and tabs, overrides of direction, and what cannot be encoded.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

log = structlog.get_logger()


def webhook_jobs(webhooks: Webhooks[Any], *, when_paused: Job[Any]) -> tuple[Job[Any], ...]:
    """The jobs that deliver events, for the application's `jobs`.

    `when_paused(run, webhook_id: int)` is enqueued when a webhook is paused.
    """

    @job(on_events=True, is_kept=False)
    async def dispatch_webhooks(run: Run) -> None:
        await dispatch(run.database, webhooks, deliver_webhook)

    @job(max_attempts=MAX_ATTEMPTS, backoff=BACKOFF, is_kept=False)
    async def deliver_webhook(run: Run, webhook_id: int) -> None:
        await courier.deliver(run, webhook_id)

    @job()
    async def redeliver_webhook(run: Run, delivery_id: int) -> None:
        await courier.redeliver(run, delivery_id)

    courier = Courier(webhooks, deliver_webhook, when_paused)
    return dispatch_webhooks, deliver_webhook, redeliver_webhook


async def dispatch(database: Database, webhooks: Webhooks[Any], deliver_webhook: Job[Any]) -> None:
    """Enqueue a delivery for each active webhook that has something to get.

    One that has a delivery already, which waits or runs, is left to it: at its end it looks for
    further events.
    """
    latest = await latest_event(database)
    newest = await _newest_by_type(database, after=latest - LOOKED_BACK)
    last_id = 0
    while page := await _behind(database, webhooks, latest, after=last_id):
        last_id = page[-1].id
        due, idle = [], []
        for each in page:
            lag = latest - each.position
            if lag > LOOKED_BACK or any(newest.get(t, 0) > each.position for t in each.events):
                due.append(each.id)
            elif lag > LEFT_BEHIND:
                idle.append(each.id)
        if not (due or idle):
            continue
        async with database.transaction() as db:
            for each_id in due:
                await deliver_webhook.set(key=str(each_id)).enqueue(db, webhook_id=each_id)
            table = webhooks.table
            is_idle = table.c.id.in_(idle) & (table.c.position < latest)
            if idle:
                await db.execute(_update(table).where(is_idle).values(position=latest))


async def _newest_by_type(database: Database, *, after: int) -> Mapping[str, int]:
    newest = select(Event.type, func.max(Event.id)).where(Event.id > after).group_by(Event.type)
    async with database.statements() as db:
        return {row[0]: row[1] for row in await db.execute(newest)}


async def _behind(
    database: Database, webhooks: Webhooks[Any], latest: int, *, after: int
) -> Sequence[Any]:
    model, account = webhooks.model, webhooks.accounts.model
    behind = (
        select(model.id, model.position, model.events)
        .join(account, account.id == model.owner_id)
        .where(model.id > after, model.is_active, model.position < latest, account.is_active)
        .order_by(model.id)
        .limit(PAGE)
    )
    async with database.statements() as db:
        return (await db.execute(behind)).all()


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended."""

    is_delivered: bool
    http_status: int | None
    error: str | None
    answer: str | None
    duration_ms: int

    @property
    def columns(self) -> dict[str, Any]:
        return {
            "status": "delivered" if self.is_delivered else "failed",
            "http_status": self.http_status,
            "error": self.error,
            "answer": self.answer,
            "duration_ms": self.duration_ms,
        }


@dataclass
class Progress:
    """How far a run has come: the position is stored, and the last attempt is not yet."""

    webhook: Subscription
    position: int
    event_id: int = 0
    outcome: Outcome | None = None


class Courier:
    """Delivers the events of one webhook after another."""

    def __init__(
        self, webhooks: Webhooks[Any], deliver_webhook: Job[Any], when_paused: Job[Any]
    ) -> None:
        self._webhooks = webhooks
        self._deliver_webhook = deliver_webhook
        self._when_paused = when_paused
        self._table = webhooks.table
        self._deliveries = cast(Table, webhooks.deliveries.__table__)
        self._retrying = 0

    async def deliver(self, run: Run, webhook_id: int) -> None:
        """Deliver some of the next events, one after another, until one fails.

        Each run reads the rights of its owner again.
        """
        webhook, viewer = await self._find(run.database, webhook_id)
        if webhook is None or viewer is None:
            return
        if not webhook.is_active:
            await self._end(run, Progress(webhook, webhook.position))
        elif not webhook.failures:
            await self._deliver_next(run, webhook, viewer)
        elif self._retrying < MAX_RETRYING:
            self._retrying += 1
            try:
                await self._deliver_next(run, webhook, viewer)
            finally:
                self._retrying -= 1
        else:
            async with run.transaction() as db:
                await run.finish(db)
                seconds = random.uniform(2, 6)  # noqa: S311 - no secret; not all come back at once
                await self._enqueue(db, webhook.id, delay=seconds)

    async def redeliver(self, run: Run, delivery_id: int) -> None:
        """Deliver an event again, if its owner may still read it; the position stays."""
        database = run.database
        async with database.statements() as db:
            delivery = await db.get(self._webhooks.deliveries, delivery_id)
        if delivery is None:
            return
        webhook, viewer = await self._find(database, delivery.webhook_id)
        if webhook is None or viewer is None:
            return
        event_id = delivery.event_id
        events = await self._read(
            database, viewer, [delivery.type], after=event_id - 1, upto=event_id
        )
        outcome = Outcome(False, None, "You may no longer read what the event is about", None, 0)
        for event in events:
            outcome = await self._call(webhook, event)
        async with run.transaction() as db:
            await self._store(db, webhook.id, event_id, outcome)

    async def _deliver_next(self, run: Run, webhook: Subscription, viewer: Principal) -> None:
        database, position = run.database, webhook.position
        upto = min(await latest_event(database), position + SCANNED)
        events = await self._read(database, viewer, webhook.events, after=position, upto=upto)
        known = await self._delivered(database, webhook.id, after=position, upto=upto)
        events = [event for event in events if event.id not in known]  # by hand
        ends_at = time.monotonic() + BATCH_SECONDS
        progress = Progress(webhook, position)
        for event in events:
            progress.event_id, progress.outcome = event.id, await self._call(webhook, event)
            if not progress.outcome.is_delivered or event is events[-1]:
                break
            if time.monotonic() > ends_at:
                upto = event.id
                break
            async with database.transaction() as db:
                if not await self._move(db, webhook.id, progress.position, event.id):
                    break  # another worker has taken the job over, or the webhook is gone
                await self._store(db, webhook.id, event.id, progress.outcome)
            progress.position, progress.outcome = event.id, None
        await self._end(run, progress, upto=upto)

    async def _end(self, run: Run, progress: Progress, *, upto: int | None = None) -> None:
        """End the job together with the last attempt, and enqueue it again if there is more to do.

        Whoever changes a webhook locks it first and enqueues its job then. So does this: in the
        other order the two could wait for each other.
        """
        webhook, outcome = progress.webhook, progress.outcome
        upto = progress.position if upto is None else upto
        async with run.transaction() as db:
            now = await self._lock(db, webhook.id)
            await run.finish(db)
            if now is None:
                return
            if now.position != progress.position:
                await self._enqueue(db, webhook.id)
                return
            if outcome:
                await self._store(db, webhook.id, progress.event_id, outcome)
            if outcome and not outcome.is_delivered:
                await self._fail(db, progress, outcome, now)
                return
            if upto > now.position:
                await self._move(db, webhook.id, now.position, upto)
            # After the end of the job: an event that comes later than this look enqueues another.
            if now.is_active and await self._has_more(db, now.events, after=upto):
                await self._enqueue(db, webhook.id)

    async def _find(
        self, database: Database, webhook_id: int
    ) -> tuple[Subscription | None, Principal | None]:
        """The webhook, and its owner as they are now, if their account is active."""
        async with database.statements() as db:
            webhook = await db.get(self._webhooks.model, webhook_id)
        if webhook is None:
            return None, None
        return webhook, await self._webhooks.accounts.get_principal(database, webhook.owner_id)

    async def _read(
        self,
        database: Database,
        viewer: Principal,
        types: Sequence[str],
        *,
        after: int,
        upto: int,
    ) -> list[EventRow]:
        """The events of these types that the viewer may read, in the order of all resources."""
        found: list[EventRow] = []
        known = self._webhooks.event_types
        for crud in dict.fromkeys(known[each] for each in types if each in known):
            rows = await read_events(crud, database, viewer=viewer, after=after, upto=upto)
            found += (row for row in rows if row.type in types)
        return sorted(found)

    async def _delivered(
        self, database: Database, webhook_id: int, *, after: int, upto: int
    ) -> set[int]:
        table = self._deliveries
        delivered = select(table.c.event_id).where(
            table.c.webhook_id == webhook_id,
            table.c.event_id > after,
            table.c.event_id <= upto,
            table.c.status == "delivered",
        )
        async with database.statements() as db:
            return set(await db.scalars(delivered))

    async def _call(self, webhook: Subscription, event: EventRow) -> Outcome:
        """Make one attempt. Neither the log nor an error has the URL: it may hold a secret."""
        body = f'{event.head[:-1]},"data":{event.content}}}'.encode()
        headers = signature_headers(
            body,
            _secrets(webhook, utc_now()),
            message_id=f"evt_{event.id}_{webhook.id}",
            sent_at=utc_now(),
        )
        bound = log.bind(webhook=webhook.id, event_id=event.id)
        began = time.perf_counter()
        try:
            answer = await post(webhook.url, body, headers, self._webhooks.options)
        except DeliveryFailed as failed:
            duration_ms = round((time.perf_counter() - began) * 1000)
            bound.warning("webhook_failed", reason=failed.code, duration_ms=duration_ms)
            return Outcome(False, None, printable(str(failed)), None, duration_ms)
        duration_ms = round(answer.seconds * 1000)
        if not answer.is_success:
            bound.warning("webhook_failed", status=answer.status, duration_ms=duration_ms)
        error = None if answer.is_success else f"The target answered {answer.status}"
        text = printable(answer.body_start)
        return Outcome(answer.is_success, answer.status, error, text, duration_ms)

    async def _fail(self, db: UnitOfWork, progress: Progress, outcome: Outcome, now: Any) -> None:
        """Try again later, or pause the webhook."""
        webhook = progress.webhook
        # The first failure of an event follows the success of another.
        before = webhook.failures if progress.position == webhook.position else 0
        if (now.failures, now.url, now.is_active) != (before, webhook.url, True):
            # Meanwhile its owner has paused it, continued it or changed the URL.
            await self._enqueue(db, webhook.id)
            return
        is_it = self._table.c.id == webhook.id
        failures = before + 1
        if failures < self._deliver_webhook.max_attempts and outcome.http_status != GONE:
            await db.execute(_update(self._table).where(is_it).values(failures=failures))
            delay = self._deliver_webhook.backoff_after(failures)
            await self._enqueue(db, webhook.id, delay=delay)
            return
        paused = {"is_active": False, "paused_at": utc_now(), "pause_reason": outcome.error}
        version = self._table.c.version + 1
        await db.execute(update(self._table).where(is_it).values(version=version, **paused))
        await self._when_paused.enqueue(db, webhook_id=webhook.id)

    async def _lock(self, db: UnitOfWork, webhook_id: int) -> Any:
        """What may have changed since the webhook was read."""
        columns = ("position", "failures", "url", "events", "is_active")
        now = select(*(self._table.c[name] for name in columns))
        now = now.where(self._table.c.id == webhook_id).with_for_update(key_share=True)
        return (await db.execute(now)).first()

    async def _move(self, db: UnitOfWork, webhook_id: int, position: int, upto: int) -> bool:
        """Move the position, unless somebody else has moved it."""
        is_it = (self._table.c.id == webhook_id) & (self._table.c.position == position)
        moved = _update(self._table).where(is_it).values(position=upto, failures=0)
        return await _changes_one(db, moved)

    async def _store(
        self, db: UnitOfWork, webhook_id: int, event_id: int, outcome: Outcome
    ) -> None:
        """Store how an event was delivered, unless the event has been purged meanwhile."""
        table, now = self._deliveries, utc_now()
        values = outcome.columns | {"attempted_at": now}
        row = values | {"webhook_id": webhook_id, "attempts": 1, "created_at": now}
        of_event = select(
            Event.id,
            Event.type,
            *(literal(value, table.c[name].type) for name, value in row.items()),
        ).where(Event.id == event_id)
        insert = {"postgresql": postgresql, "sqlite": sqlite}[db.get_bind().dialect.name].insert
        await db.execute(
            insert(table)
            .from_select(["event_id", "type", *row], of_event)
            .on_conflict_do_update(
                index_elements=[table.c.event_id, table.c.webhook_id],
                set_=values | {"attempts": table.c.attempts + 1},
            )
        )

    async def _has_more(self, db: UnitOfWork, types: Sequence[str], *, after: int) -> bool:
        later = exists().where(Event.id > after, Event.type.in_(types))
        return bool(await db.scalar(select(later)))

    async def _enqueue(self, db: UnitOfWork, webhook_id: int, *, delay: float = 0) -> None:
        again = self._deliver_webhook.set(key=str(webhook_id), delay=timedelta(seconds=delay))
        await again.enqueue(db, webhook_id=webhook_id)


def printable(text: str) -> str:
    """What others have sent, as the API and a terminal can show it: bounded, without controls."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))[:MAX_ANSWER]


def _secrets(webhook: Subscription, now: datetime) -> list[str]:
    previous, until = webhook.previous_secret, webhook.previous_secret_until
    return [webhook.secret, *([previous] if previous and until and until > now else [])]


def _update(table: Table) -> Any:
    """Of what no answer shows: the version and the time of the last change stay."""
    return update(table).values(updated_at=table.c.updated_at)


async def _changes_one(db: UnitOfWork, statement: Any) -> bool:
    result: Any = await db.execute(statement)
    return bool(result.rowcount)
