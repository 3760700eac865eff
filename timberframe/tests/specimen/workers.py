"""Workers of the specimen's jobs: in this process, and in processes that are killed."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from multiprocessing.context import ForkServerProcess
from typing import Any

from timberframe.data.session import Database
from timberframe.jobs.worker import JobOptions, Worker
from timberframe.testing.forked import fork
from timberframe.testing.subject import app


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
    process = fork(work, *arguments, daemon=True)
    try:
        yield process
    finally:
        process.kill()
        process.join()
