"""Runs a worker as a process: by `worker`, and beside `serve`."""

import asyncio
import os
import signal
from collections.abc import Callable, Mapping
from typing import Any

import structlog
import uvloop

from timberframe.data.options import DatabaseOptions
from timberframe.data.session import open_database
from timberframe.jobs.declaration import Job
from timberframe.jobs.worker import JobOptions, Worker
from timberframe.settings import Settings

log = structlog.get_logger()


def run_worker(
    settings: Settings,
    jobs: Mapping[str, Job[Any]],
    *,
    parent: int | None = None,
    when_started: Callable[[], None] = lambda: None,
) -> None:
    """Work until SIGTERM or SIGINT, or until the process `parent` is gone."""
    uvloop.run(_run(settings, jobs, parent, when_started))


async def _run(
    settings: Settings,
    jobs: Mapping[str, Job[Any]],
    parent: int | None,
    when_started: Callable[[], None],
) -> None:
    async with open_database(DatabaseOptions.of(settings)) as database:
        worker = Worker(database, jobs, JobOptions.of(settings))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, worker.stop)
        when_started()
        log.info("working", jobs=sorted(jobs))
        orphaned = asyncio.create_task(_stop_without(parent, worker)) if parent else None
        await worker.run()
        if orphaned:
            orphaned.cancel()


async def _stop_without(parent: int, worker: Worker) -> None:
    """A server that was killed cannot stop its worker, and the next one starts another."""
    while os.getppid() == parent:  # noqa: ASYNC110 - nothing announces it
        await asyncio.sleep(1)
    worker.stop()
