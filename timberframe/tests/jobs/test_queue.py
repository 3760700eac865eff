"""Jobs in one process: enqueued in a transaction, tried, retried, parked, and taken over."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError
from sqlalchemy import select, update
from structlog.testing import capture_logs

from specimen import jobs
from specimen.config import settings
from specimen.crud import user_crud
from specimen.factories import add, row
from specimen.models import Product
from timberframe.app import create_app
from timberframe.data.session import Database
from timberframe.errors import WrongDeclaration
from timberframe.jobs import Job, Run, job, queue
from timberframe.jobs.models import JobRecord
from timberframe.jobs.worker import JobOptions, Worker
from timberframe.testing import run_jobs


@job(schedule="* * * * *")
async def every_minute(run: Run) -> None:
    pass


def worker_of(database: Database, *declared: Job[Any], **options: Any) -> Worker:
    chosen = {each.name: each for each in declared or jobs.JOBS}
    return Worker(database, chosen, JobOptions(**options))


async def stored(database: Database) -> list[JobRecord]:
    async with database.reading() as db:
        return list((await db.scalars(select(JobRecord).order_by(JobRecord.id))).all())


async def stock_of(database: Database, product_id: int = 1) -> int:
    async with database.reading() as db:
        return int(await db.scalar(select(Product.stock).where(Product.id == product_id)) or 0)


@pytest.fixture
async def product(database: Database) -> int:
    await add(database, [row(1, stock=0)])
    return 1


async def test_commit_publishes_and_rollback_drops(database: Database, product: int) -> None:
    async with database.transaction() as db:
        await jobs.add_to_stock.enqueue(db, product_id=product)
    with pytest.raises(ZeroDivisionError):
        await enqueue_and_fail(database, product)
    [done] = await run_jobs()
    assert (done.name, done.status, done.attempts) == ("add_to_stock", "done", 1)
    assert await stock_of(database) == 1
    assert await run_jobs() == []


async def enqueue_and_fail(database: Database, product: int) -> None:
    async with database.transaction() as db:
        await jobs.add_to_stock.enqueue(db, product_id=product)
        raise ZeroDivisionError


async def test_single_statement_may_enqueue(database: Database, product: int) -> None:
    assert await jobs.add_to_stock.enqueue(database, product_id=product)
    assert len(await run_jobs()) == 1
    assert await stock_of(database) == 1


async def test_job_may_enqueue_another(database: Database, product: int) -> None:
    await jobs.add_later.enqueue(database, product_id=product)
    assert [each.name for each in await run_jobs()] == ["add_later", "add_to_stock"]
    assert await stock_of(database) == 1


async def test_bad_payload_is_refused_when_it_is_enqueued(database: Database) -> None:
    payloads: list[dict[str, Any]] = [
        {},
        {"product_id": "many"},
        {"product_id": 1, "colour": "red"},
    ]
    for payload in payloads:
        with pytest.raises(ValidationError):
            await jobs.add_to_stock.enqueue(database, **payload)
    assert await stored(database) == []


async def test_payload_that_no_longer_fits_is_parked(database: Database) -> None:
    await queue.insert_job(database, "add_to_stock", {"item": 1})
    [dead] = await run_jobs()
    assert (dead.status, dead.attempts) == ("dead", 1)
    assert dead.error == "the payload does not fit the job: product_id: Field required"


async def test_lowest_priority_goes_first_and_then_the_oldest(database: Database) -> None:
    order = (0, 5, -1, 0)
    ids = [await jobs.fail.set(priority=each).enqueue(database, until_attempt=0) for each in order]
    assert [each.id for each in await run_jobs()] == [ids[2], ids[0], ids[3], ids[1]]


async def test_delayed_job_waits(database: Database, product: int) -> None:
    later = jobs.add_to_stock.set(delay=timedelta(milliseconds=300))
    await later.enqueue(database, product_id=product)
    assert await run_jobs() == []
    seconds = await queue.seconds_to_next(database, ["add_to_stock"])
    assert seconds is not None
    assert 0 < seconds <= 0.3
    await asyncio.sleep(0.35)
    assert len(await run_jobs()) == 1


async def test_key_is_taken_until_the_job_is_done(database: Database, product: int) -> None:
    once = jobs.add_to_stock.set(key="product 1")
    assert await once.enqueue(database, product_id=product)
    async with database.transaction() as db:
        assert await once.enqueue(db, product_id=product) is None
        assert await once.set(key="product 2").enqueue(db, product_id=product)
    assert len(await run_jobs()) == 2
    assert await once.enqueue(database, product_id=product)


async def test_parked_job_does_not_hold_its_key(database: Database) -> None:
    once = jobs.hang.set(key="one")
    first = await once.enqueue(database)
    assert first
    await run_jobs()
    assert await once.enqueue(database)
    async with database.transaction() as db:  # beside the other, without the key
        assert await queue.retry(db, first)
    assert [(each.status, each.key) for each in await stored(database)] == [
        ("queued", None),
        ("queued", "one"),
    ]


async def test_tick_that_was_done_does_not_come_again(database: Database) -> None:
    tick = datetime(2026, 1, 1, tzinfo=UTC)
    assert await queue.insert_job(database, "fail", {"until_attempt": 0}, tick=tick)
    [done] = await run_jobs()
    assert done.status == "done"
    assert await queue.insert_job(database, "fail", {"until_attempt": 0}, tick=tick) is None


async def test_of_many_with_one_key_at_once_one_is_enqueued(database: Database) -> None:
    async def enqueue() -> int | None:
        async with database.transaction() as db:
            return await jobs.fail.set(key="one").enqueue(db)

    ids = await asyncio.gather(*(enqueue() for _ in range(20)))
    assert len([each for each in ids if each]) == 1


async def test_job_that_is_not_kept_leaves_no_record_unless_it_fails(database: Database) -> None:
    @job(max_attempts=1, is_kept=False)
    async def sweep(run: Run, is_broken: bool) -> None:
        assert not is_broken

    worker = worker_of(database, sweep)
    for is_broken in (False, True):
        await sweep.enqueue(database, is_broken=is_broken)
    assert len(await worker.run_due()) == 2
    assert [each.status for each in await stored(database)] == ["dead"]


async def test_job_may_enqueue_itself_under_its_own_key(database: Database) -> None:
    """The control: without `finish` its own key is taken until it is done."""
    enqueued: list[int | None] = []

    @job()
    async def walk(run: Run, is_finished: bool) -> None:
        async with run.transaction() as db:
            if is_finished:
                await run.finish(db)
            later = walk.set(key="one", delay=timedelta(days=1))
            enqueued.append(await later.enqueue(db, is_finished=is_finished))

    for is_finished in (False, True):
        await walk.set(key="one").enqueue(database, is_finished=is_finished)
        await worker_of(database, walk).run_due()
    assert [bool(each) for each in enqueued] == [False, True]
    assert [each.status for each in await stored(database)] == ["done", "done", "queued"]


async def test_waiting_job_is_hastened(database: Database) -> None:
    """The control: one with another key still waits."""
    for key in ("one", "two"):
        await jobs.fail.set(key=key, delay=timedelta(days=1)).enqueue(database, until_attempt=0)
    async with database.transaction() as db:
        await queue.hasten(db, "fail", "one")
    assert [each.key for each in await run_jobs()] == ["one"]


async def test_failure_is_stored_tried_again_and_parked(database: Database) -> None:
    await jobs.fail.enqueue(database)
    for attempt in (1, 2, 3):
        [failed] = await run_jobs()
        assert failed.error == f"ValueError: attempt {attempt} of job {failed.id}"
        assert failed.status == ("dead" if attempt == 3 else "queued")
        assert failed.run_at >= failed.created_at + attempt * 0.7 * jobs.SOON
        await asyncio.sleep(0.3)
    assert await run_jobs() == []


async def test_job_that_succeeds_in_the_end_is_done(database: Database) -> None:
    await jobs.fail.enqueue(database, until_attempt=2)
    await run_jobs()
    await asyncio.sleep(0.2)
    [done] = await run_jobs()
    assert (done.status, done.error, done.attempts) == ("done", None, 2)


async def test_job_that_fails_after_its_transaction_is_done(
    database: Database, product: int
) -> None:
    @job()
    async def fail_at_the_end(run: Run, product_id: int) -> None:
        await jobs.add_to_stock.function(run, product_id)
        raise ValueError(product_id)

    await fail_at_the_end.enqueue(database, product_id=product)
    with capture_logs() as logs:
        [job_id] = await worker_of(database, fail_at_the_end).run_due()
    [done] = await stored(database)
    assert (done.id, done.status, done.error) == (job_id, "done", None)
    assert await stock_of(database) == 1
    [line] = logs
    assert (line["event"], line["log_level"]) == ("job_done", "error")
    assert line["reason"] == "it failed after its transaction"


async def test_job_that_hangs_is_ended_after_its_time(database: Database) -> None:
    await jobs.hang.enqueue(database)
    [dead] = await run_jobs()
    assert (dead.status, dead.error) == ("dead", "TimeLimit: it took longer than 0.2 s")


async def test_unknown_job_is_kept(database: Database) -> None:
    await queue.insert_job(database, "of_a_newer_version", {})
    assert await run_jobs() == []
    [kept] = await stored(database)
    assert (kept.status, kept.attempts) == ("queued", 0)
    names = ["add_to_stock", "fail"]
    assert await queue.unknown_names(database, names) == ["of_a_newer_version"]
    assert await queue.unknown_names(database, [*names, "of_a_newer_version"]) == []


async def test_lease_that_ended_is_taken_over_and_the_first_commits_nothing(
    database: Database, product: int
) -> None:
    @job()
    async def add_slowly(run: Any, product_id: int) -> None:
        async with run.transaction() as db:
            await db.execute(update(Product).values(stock=Product.stock + 1))
            if run.attempt > 1:
                return
            started.set()
        raise AssertionError("the lease was lost")

    started = asyncio.Event()
    worker = worker_of(database, add_slowly, lease=0.01)
    await add_slowly.enqueue(database, product_id=product)
    [claim] = await worker._claim(1)
    await asyncio.sleep(0.05)
    assert await queue.take_over(database) == [(claim.id, "queued")]
    [second] = await worker._claim(1)
    await worker._run(second)
    await worker._run(claim)  # which has lost its lease: rolled back
    assert started.is_set()
    assert await stock_of(database) == 1
    [done] = await stored(database)
    assert (done.status, done.attempts, done.deaths) == ("done", 2, 1)


async def test_control_worker_that_is_done_first_loses_the_effect(
    database: Database, product: int
) -> None:
    """Were "done" committed before the effects, a death in between would lose them."""
    await jobs.add_to_stock.enqueue(database, product_id=product)
    worker = worker_of(database, lease=0.01)
    [claim] = await worker._claim(1)
    async with database.transaction() as db:
        await queue.finish(db, claim.id, claim.attempt)
    await asyncio.sleep(0.05)  # it dies here
    assert await queue.take_over(database) == []
    assert await run_jobs() == []
    assert await stock_of(database) == 0


async def test_job_whose_worker_dies_three_times_is_parked(database: Database) -> None:
    await jobs.die.enqueue(database)
    worker = worker_of(database, lease=0.001)
    for expected in ("queued", "queued", "dead"):
        [claim] = await worker._claim(1)
        await asyncio.sleep(0.02)
        assert await queue.take_over(database) == [(claim.id, expected)]
    assert await worker._claim(1) == []


async def test_claims_of_many_workers_are_different_jobs(database: Database) -> None:
    for _ in range(40):
        await jobs.fail.enqueue(database)
    workers = [worker_of(database) for _ in range(8)]
    claims = await asyncio.gather(*(worker._claim(5) for worker in workers))
    ids = [claim.id for some in claims for claim in some]
    assert len(ids) == len(set(ids)) == 40


async def test_every_tick_comes_once_whatever_clocks_do(database: Database) -> None:
    """Five workers; the clock of one goes back."""
    workers = [worker_of(database, jobs.tick) for _ in range(5)]
    start = datetime(2026, 1, 1, tzinfo=UTC)
    seconds = [0.5, *(second + 0.2 for second in range(1, 6)), 3.2, 4.2, 6.2]
    for each in seconds:
        now = start + timedelta(seconds=each)
        await asyncio.gather(*(worker._enqueue_ticks(now) for worker in workers))
    # A worker that starts now goes on where the others are.
    await worker_of(database, jobs.tick)._enqueue_ticks(start + timedelta(seconds=6.3))
    ticks = [each.tick for each in await stored(database)]
    assert ticks == [start + timedelta(seconds=second) for second in range(1, 7)]


async def test_schedule_that_was_missed_is_made_up_for_once(database: Database) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    first = worker_of(database, every_minute)
    for seconds in (1, 61):
        await first._enqueue_ticks(start + timedelta(seconds=seconds))
    await worker_of(database, every_minute)._enqueue_ticks(start + timedelta(seconds=3601))
    ticks = [each.tick for each in await stored(database)]
    assert ticks == [start + timedelta(minutes=minutes) for minutes in (1, 60)]


async def test_worker_that_looks_late_misses_no_tick(database: Database) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    worker = worker_of(database, jobs.tick)
    for seconds in (0.9, 2.1, 6.8):
        await worker._enqueue_ticks(start + timedelta(seconds=seconds))
    ticks = [each.tick for each in await stored(database)]
    assert ticks == [start + timedelta(seconds=second) for second in range(1, 7)]


async def test_clock_that_is_set_back_an_hour_repeats_no_tick_and_skips_none(
    database: Database,
) -> None:
    """Not in the worker that saw it, nor in one that starts then, though most ticks are purged."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    worker = worker_of(database, every_minute)
    for minutes in range(60):
        await worker._enqueue_ticks(start + timedelta(minutes=minutes, seconds=1))
    assert len(await worker.run_due()) == 59
    assert await queue.purge(database, age=0) == 59
    await worker._enqueue_ticks(start + timedelta(minutes=60, seconds=1))
    later = worker_of(database, every_minute)
    for minutes in range(65):
        now = start + timedelta(minutes=minutes, seconds=2)
        await asyncio.gather(worker._enqueue_ticks(now), later._enqueue_ticks(now))
    ticks = [each.tick for each in await stored(database)]
    assert ticks == [start + timedelta(minutes=minutes) for minutes in range(60, 65)]


async def test_clock_that_was_a_year_ahead_does_not_stop_the_schedule(database: Database) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    ahead = start + timedelta(days=365)
    worker = worker_of(database, every_minute)
    for seconds in (1, 61):
        await worker._enqueue_ticks(ahead + timedelta(seconds=seconds))
    later = worker_of(database, every_minute)
    for seconds in (1, 61, 121):
        now = start + timedelta(seconds=seconds)
        await asyncio.gather(worker._enqueue_ticks(now), later._enqueue_ticks(now))
    ticks = {each.tick for each in await stored(database)}
    minute = timedelta(minutes=1)
    assert ticks == {ahead + minute, start + minute, start + 2 * minute}


async def test_done_jobs_are_purged_and_dead_ones_are_kept(database: Database) -> None:
    await jobs.fail.enqueue(database, until_attempt=0)
    await jobs.hang.enqueue(database)
    await run_jobs()
    assert await queue.purge(database, age=3600) == 0
    assert await queue.purge(database, age=0) == 1
    assert [each.status for each in await stored(database)] == ["dead"]


async def test_times_are_of_the_databases_clock(database: Database) -> None:
    await jobs.fail.enqueue(database)
    async with database.reading() as db:
        now = await db.scalar(select(queue.FromNow(0)))
    assert now is not None
    [record] = await stored(database)
    assert record.run_at.tzinfo is UTC
    assert timedelta() <= now - record.created_at < timedelta(seconds=5)
    assert abs(now - datetime.now(UTC)) < timedelta(seconds=5)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [("every day", "schedule 'every day'"), ("61 * * * *", "schedule '61")],
)
def test_wrong_schedule_is_refused_at_the_start(schedule: str, message: str) -> None:
    async def tidy(run: Any) -> None: ...

    with pytest.raises(ValueError, match=message):
        job(schedule=schedule)(tidy)


def test_schedule_cannot_give_a_payload() -> None:
    async def tidy(run: Any, folder: str) -> None: ...

    with pytest.raises(TypeError, match="tidy: with a schedule nobody gives it folder"):
        job(schedule="0 3 * * *")(tidy)


def test_events_cannot_give_a_payload() -> None:
    with pytest.raises(TypeError, match="with on_events nobody gives it user_id"):

        @job(on_events=True)
        async def remind(run: Run, user_id: int) -> None: ...


def test_secret_is_refused_as_a_payload() -> None:
    async def notify(run: Any, token: SecretStr | None = None) -> None: ...

    with pytest.raises(TypeError, match="notify: token would be stored as it is"):
        job()(notify)


def test_two_jobs_of_one_name_are_refused() -> None:
    with pytest.raises(WrongDeclaration, match="two have the same name"):
        create_app(settings, accounts=user_crud, jobs=(jobs.fail, jobs.fail), routers={})
