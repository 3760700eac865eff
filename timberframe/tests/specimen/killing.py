"""Workers that are killed and replaced: `python -m specimen.killing MODE`."""

import asyncio
import os
import random
import signal
import sys
import time
from typing import Any

import uvloop

from specimen.config import settings
from specimen.jobs import JOBS
from timberframe.data.options import DatabaseOptions
from timberframe.data.session import open_database
from timberframe.jobs import Run, queue
from timberframe.jobs.worker import JobOptions, Worker

WORKERS = 3
KILLS = 6


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
        await asyncio.sleep(0.05)
        async with self._database.transaction() as db:
            await queue.finish(db, claim.id, claim.attempt)


async def _do(worker: Worker, claim: queue.Claim) -> None:
    class Apart(Run):
        transaction: Any = worker._database.transaction

    job = worker._jobs[claim.name]
    await job.function(Apart(claim.id, claim.attempt, worker._database), **claim.payload)


MODES = {"as-it-is": Worker, "done-first": DoneFirst, "done-afterwards": DoneAfterwards}


async def work(mode: str) -> None:
    options = JobOptions(lease=0.5, max_deaths=1000)
    async with open_database(DatabaseOptions.of(settings)) as database:
        await MODES[mode](database, {job.name: job for job in JOBS}, options).run()


def start(mode: str) -> int:
    if child := os.fork():
        return child
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    uvloop.run(work(mode))
    os._exit(0)


def main() -> None:
    """Kill some, and then let the others work until SIGTERM."""
    [mode] = sys.argv[1:]
    workers = [start(mode) for _ in range(WORKERS)]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    choose = random.Random(1)  # noqa: S311 - the same pauses every time
    try:
        for _ in range(KILLS):
            time.sleep(choose.uniform(0.1, 0.3))
            kill(workers.pop(choose.randrange(WORKERS)))
            workers.append(start(mode))
        time.sleep(3600)
    finally:
        for worker in workers:
            kill(worker)


def kill(worker: int) -> None:
    os.kill(worker, signal.SIGKILL)
    os.waitpid(worker, 0)


if __name__ == "__main__":
    main()
