"""Workers: woken by a commit, stopped, killed at any moment, and blocked by a job."""

import asyncio
import os
import random
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import func, select, update

from specimen import jobs
from specimen.config import settings
from specimen.factories import add, row
from specimen.killing import DoneAfterwards, DoneFirst, work, work_as_set
from specimen.models import Product
from specimen.workers import forked
from timberframe.data.base import utc_now
from timberframe.data.session import Database, open_database
from timberframe.jobs import queue
from timberframe.jobs import worker as working
from timberframe.jobs.models import JobRecord
from timberframe.jobs.worker import JobOptions, Worker
from timberframe.testing import database_options, environment, serving
from timberframe.testing.forked import exit_code, fork_command
from timberframe.testing.proxy import proxied

WORKERS = 3
KILLS = 5
JOBS = 50
NAMES = {each.name: each for each in jobs.JOBS}


async def statuses(database: Database) -> Counter[str]:
    """How many jobs of these tests have each status."""
    counted = select(JobRecord.status, func.count()).where(JobRecord.name.in_(NAMES))
    counted = counted.group_by(JobRecord.status)
    async with database.reading() as db:
        rows = (await db.execute(counted)).all()
    return Counter({row[0]: row[1] for row in rows})


async def stocks(database: Database) -> Counter[int]:
    async with database.reading() as db:
        return Counter((await db.scalars(select(Product.stock))).all())


async def until_one_is(status: str, database: Database) -> None:
    async with asyncio.timeout(60):
        while status not in await statuses(database):  # noqa: ASYNC110 - others' work
            await asyncio.sleep(0.02)


async def until_all_are(status: str, database: Database, seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while set(await statuses(database)) != {status}:  # noqa: ASYNC110 - others' work
            await asyncio.sleep(0.05)


async def enqueue(database: Database, count: int, **payload: Any) -> None:
    await add(database, [row(number, stock=0) for number in range(1, count + 1)])
    async with database.transaction() as db:
        for number in range(1, count + 1):
            await jobs.add_to_stock.enqueue(db, product_id=number, **payload)


async def test_worker_is_woken_by_a_commit(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would poll in an hour; the control is a delay that no commit ends."""
    monkeypatch.setattr(working, "POLL_SECONDS", 3600)
    worker = Worker(database, NAMES, JobOptions())
    task = asyncio.create_task(worker.run())
    await asyncio.sleep(0.2)
    for _ in range(3):
        await enqueue_one(database)
        await until_all_are("done", database, seconds=10)
    worker.stop()
    await task


async def enqueue_one(database: Database) -> None:
    async with database.transaction() as db:
        await jobs.fail.enqueue(db, until_attempt=0)


async def test_worker_that_stops_gives_back_what_does_not_end(database: Database) -> None:
    await enqueue(database, 2, pause_seconds=3600)
    await jobs.add_to_stock.set(priority=-1).enqueue(database, product_id=1, pause_seconds=0.3)
    worker = Worker(database, NAMES, JobOptions(grace=0.6))
    task = asyncio.create_task(worker.run())
    await asyncio.sleep(0.1)
    worker.stop()
    await task
    assert await statuses(database) == {"queued": 2, "done": 1}
    async with database.reading() as db:
        attempts = (await db.scalars(select(JobRecord.attempts).order_by(JobRecord.id))).all()
    assert list(attempts) == [0, 0, 1]


async def test_lease_of_a_long_job_is_renewed(database: Database) -> None:
    """Two workers and a lease of 0.3 s: the job takes 1 s, and runs once."""
    await enqueue(database, 1, pause_seconds=1)
    workers = [Worker(database, NAMES, JobOptions(lease=0.3)) for _ in range(2)]
    tasks = [asyncio.create_task(worker.run()) for worker in workers]
    await until_all_are("done", database)
    for worker in workers:
        worker.stop()
    await asyncio.gather(*tasks)
    async with database.reading() as db:
        record = (await db.scalars(select(JobRecord))).one()
    assert (record.attempts, record.deaths) == (1, 0)
    assert await stocks(database) == {1: 1}


@pytest.mark.parametrize("engine", ["postgresql"])  # an open SQLite file stays open
async def test_job_that_ends_while_the_database_is_away_is_done_once(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker waits and tries again: none has died."""
    monkeypatch.setattr(working, "POLL_SECONDS", 0.05)
    async with (
        proxied(settings.DATABASE_URL.get_secret_value()) as (url, proxy),
        open_database(replace(database_options(), url=url)) as database,
    ):
        await enqueue(database, 1, pause_seconds=0.3)
        worker = Worker(database, NAMES, JobOptions(lease=2))
        task = asyncio.create_task(worker.run())
        await asyncio.sleep(0.15)
        await proxy.cut()
        await asyncio.sleep(0.6)
        await proxy.restore()
        async with asyncio.timeout(30):
            while await stocks(database) != {1: 1}:
                await asyncio.sleep(0.1)
                await make_due(database)
        worker.stop()
        await task
        async with database.reading() as db:
            record = (await db.scalars(select(JobRecord))).one()
        assert (record.status, record.deaths, record.attempts) == ("done", 0, 2)


async def make_due(database: Database) -> None:
    async with database.transaction() as db:
        await db.execute(update(JobRecord).values(run_at=utc_now()))


async def work_and_kill(worker: type[Worker], database: Database, url: str) -> Counter[int]:
    """How often each job was done, although some of the workers were killed meanwhile."""
    await enqueue(database, JOBS, pause_seconds=0.1)
    choose = random.Random(1)  # noqa: S311 - the same pauses every time
    with ExitStack() as stack:
        workers = [stack.enter_context(forked(work, worker, url)) for _ in range(WORKERS)]
        await until_one_is("running", database)
        for _ in range(KILLS):
            await asyncio.sleep(choose.uniform(0.1, 0.3))
            workers.pop(choose.randrange(WORKERS)).kill()
            workers.append(stack.enter_context(forked(work, worker, url)))
        await until_all_are("done", database)
    return await stocks(database)


@pytest.mark.seconds(4)
async def test_workers_killed_at_any_moment_lose_and_double_nothing(
    database: Database, database_url: str
) -> None:
    assert await work_and_kill(Worker, database, database_url) == {1: JOBS}
    async with database.reading() as db:
        assert (await db.scalars(select(JobRecord.deaths).where(JobRecord.deaths > 0))).all()


@pytest.mark.seconds(4)
@pytest.mark.parametrize("engine", ["sqlite"])  # the fault does not depend on it
@pytest.mark.parametrize(("worker", "times"), [(DoneFirst, 0), (DoneAfterwards, 2)])
async def test_control_worker_that_commits_twice_loses_or_doubles(
    database: Database, database_url: str, worker: type[Worker], times: int
) -> None:
    found = await work_and_kill(worker, database, database_url)
    assert found[times], found


async def test_command_works_until_it_is_stopped(database: Database, database_url: str) -> None:
    await enqueue(database, 3)
    settings = environment(DATABASE_URL=database_url)
    process = fork_command("worker", environment=settings, files=[os.devnull] * 3)
    try:
        await until_all_are("done", database)
    finally:
        process.terminate()
        assert exit_code(process, within=60) == 0
    assert await stocks(database) == {1: 3}


@pytest.mark.seconds(3)
async def test_job_that_blocks_its_worker_ends_it(database: Database, database_url: str) -> None:
    """Nothing else could run there, and its lease could not be renewed."""
    await jobs.block.enqueue(database)
    with forked(work_as_set, database_url) as process:
        process.join(60)
        assert process.exitcode == working.EXIT_BLOCKED
    assert (1, "queued") in await queue.take_over(database)


@pytest.mark.seconds(6)
async def test_one_worker_runs_beside_the_server_and_is_replaced(
    database: Database, database_url: str
) -> None:
    """The job that kills its process is parked, and the others are done."""
    await jobs.die.enqueue(database)
    await enqueue(database, 3)
    settings = {"EMBEDDED_WORKER": "true", "JOBS_LEASE_SECONDS": "1"}
    with serving("--workers", "2", DATABASE_URL=database_url, **settings) as server:
        async with asyncio.timeout(60):
            while await statuses(database) != {"done": 3, "dead": 1}:  # noqa: ASYNC110 - theirs
                await asyncio.sleep(0.05)
        server.process.terminate()
        assert exit_code(server.process, within=60) == 0
        log = server.log.read_text()
    assert log.count("job_worker_replaced") == 3
    assert await stocks(database) == {1: 3}
