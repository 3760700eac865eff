"""A schedule with several workers, one of which is killed: each tick comes once."""

import asyncio
from contextlib import ExitStack
from datetime import datetime, timedelta

import pytest
from sqlalchemy import func, select, text

from specimen.factories import add, row
from specimen.models import Product
from specimen.ticking import work
from specimen.workers import forked
from timberframe.data.session import Database
from timberframe.jobs.models import JobRecord, Status

WORKERS = 3
TICKS = 4


async def count(database: Database) -> int:
    """How many different ticks there are."""
    async with database.reading() as db:
        return await db.scalar(select(func.count(JobRecord.tick.distinct()))) or 0


async def until_there_are(ticks: int, database: Database) -> None:
    async with asyncio.timeout(60):
        while await count(database) < ticks:  # noqa: ASYNC110 - others' work
            await asyncio.sleep(0.05)


async def tick(database: Database, url: str, *, until: int) -> list[datetime]:
    """The ticks of all jobs; one of the workers is killed and started again meanwhile."""
    await add(database, [row(1, stock=0)])
    with ExitStack() as stack:
        first, *_ = [stack.enter_context(forked(work, url)) for _ in range(WORKERS)]
        await until_there_are(2, database)
        first.kill()
        stack.enter_context(forked(work, url))
        await until_there_are(until, database)
        await until_all_are_done(database)
    async with database.reading() as db:
        ticks = (await db.scalars(select(JobRecord.tick).order_by(JobRecord.tick))).all()
    return [tick for tick in ticks if tick]


async def until_all_are_done(database: Database) -> None:
    is_open = select(func.count()).where(JobRecord.status != Status.DONE)
    async with asyncio.timeout(60), database.reading() as db:
        while await db.scalar(is_open):  # noqa: ASYNC110 - others' work
            await asyncio.sleep(0.05)


@pytest.mark.seconds(7)
async def test_each_tick_comes_once_while_a_worker_is_killed(
    database: Database, database_url: str
) -> None:
    ticks = await tick(database, database_url, until=TICKS)
    assert ticks == [ticks[0] + timedelta(seconds=number) for number in range(len(ticks))]
    async with database.reading() as db:
        done = (await db.scalars(select(JobRecord.id).where(JobRecord.status == Status.DONE))).all()
        assert await db.scalar(select(Product.stock)) == len(done) >= TICKS


@pytest.mark.seconds(4)
@pytest.mark.parametrize("engine", ["sqlite"])  # the fault does not depend on it
async def test_control_tick_that_is_not_unique_comes_twice(
    database: Database, database_url: str
) -> None:
    async with database.transaction() as db:
        await db.execute(text("DROP INDEX uq_jobs_name_tick"))
    ticks = await tick(database, database_url, until=3)
    assert len(ticks) > len(set(ticks))
