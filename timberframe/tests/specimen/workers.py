"""Workers of the specimen's jobs: in this process, and in processes that are killed."""

import asyncio
import multiprocessing
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from multiprocessing.context import ForkServerProcess
from typing import Any

import pytest

from timberframe.data.session import Database
from timberframe.jobs.worker import JobOptions, Worker
from timberframe.testing import environment
from timberframe.testing.subject import app

# Processes are forked from one that has imported this once.
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    ["pytest", "specimen.delivering", "specimen.killing", "specimen.ticking"]
)


@asynccontextmanager
async def working(database: Database, **options: Any) -> AsyncIterator[None]:
    worker = Worker(database, app().state.jobs, JobOptions(**options))
    task = asyncio.create_task(worker.run())
    try:
        yield
    finally:
        worker.stop()
        await task


@contextmanager
def forked(work: Callable[..., None], *arguments: Any) -> Iterator[ForkServerProcess]:
    """A process that does this work, and is killed in the end."""
    process = _context.Process(target=work, args=arguments, daemon=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", environment()["PYTHONPATH"])  # for the imports
        process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()
