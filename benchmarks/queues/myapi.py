"""Our own queue."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import Column, Double, Integer, MetaData, Table, bindparam, update
from timberframe.data.options import DatabaseOptions
from timberframe.data.session import open_database
from timberframe.jobs import Run, job
from timberframe.jobs.worker import JobOptions, Worker
from timberframe.logging import configure_logging

from benchmarks.queues.process import Enqueue

counters = Table(
    "counters",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("value", Integer, nullable=False),
    Column("begun_at", Double),
)
INCREMENT = (
    update(counters)
    .where(counters.c.id == bindparam("counter_id"))
    .values(value=counters.c.value + 1, begun_at=bindparam("now"))
)


@job()
async def count(run: Run, counter_id: int) -> None:
    """One row is changed, together with the job's end."""
    now = time.time()
    async with run.transaction() as db:
        await db.execute(INCREMENT, {"counter_id": counter_id, "now": now})


async def work() -> None:
    from app.core.config import settings

    configure_logging(settings)
    async with open_database(DatabaseOptions.of(settings)) as database:
        await Worker(database, {count.name: count}, JobOptions.of(settings)).run()


@asynccontextmanager
async def open_producer() -> AsyncIterator[Enqueue]:
    from app.core.config import settings

    async with open_database(DatabaseOptions.of(settings)) as database:

        async def enqueue(counter_id: int) -> None:
            await count.enqueue(database, counter_id=counter_id)

        yield enqueue
