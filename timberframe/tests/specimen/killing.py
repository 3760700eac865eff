"""Workers in processes that end early: as they are, and those of controls."""

import asyncio
from typing import Any

import uvloop
from pydantic import SecretStr

from specimen.config import Settings
from specimen.jobs import JOBS
from timberframe.data.options import DatabaseOptions
from timberframe.data.session import open_database
from timberframe.jobs import Run, queue
from timberframe.jobs.process import run_worker
from timberframe.jobs.worker import JobOptions, Worker


class DoneFirst(Worker):
    """The control: it commits that a job is done, and then does it."""

    async def _run(self, claim: queue.Claim) -> None:
        async with self._database.transaction() as db:
            await queue.finish(db, claim.id, claim.attempt)
        await _do(self, claim)


class DoneAfterwards(Worker):
    """The control: it commits the effects, and then that the job is done."""

    async def _run(self, claim: queue.Claim) -> None:
        await _do(self, claim)
        await asyncio.sleep(0.3)
        async with self._database.transaction() as db:
            await queue.finish(db, claim.id, claim.attempt)


async def _do(worker: Worker, claim: queue.Claim) -> None:
    class Apart(Run):
        transaction: Any = worker._database.transaction

    job = worker._jobs[claim.name]
    await job.function(Apart(claim.id, claim.attempt, worker._database), **claim.payload)


def work(worker: type[Worker], url: str) -> None:
    uvloop.run(_work(worker, Settings(DATABASE_URL=SecretStr(url))))


async def _work(worker: type[Worker], settings: Settings) -> None:
    options = JobOptions(concurrency=4, lease=0.5, max_deaths=1000)
    async with open_database(DatabaseOptions.of(settings)) as database:
        await worker(database, {job.name: job for job in JOBS}, options).run()


def work_as_set(url: str) -> None:
    """As the command does, with short leases."""
    settings = Settings(DATABASE_URL=SecretStr(url), JOBS_LEASE_SECONDS=1)
    run_worker(settings, {job.name: job for job in JOBS})
