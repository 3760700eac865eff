"""Workers of the specimen's jobs in this process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from timberframe.data.session import Database
from timberframe.jobs.worker import JobOptions, Worker
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
