"""procrastinate: a queue in PostgreSQL, with tables and functions of its own."""

import os
import time
from contextlib import asynccontextmanager

import asyncpg
from procrastinate import App, PsycopgConnector

from benchmarks.queues.process import CONCURRENCY, INCREMENT

app = App(connector=PsycopgConnector(conninfo=os.environ["DATABASE_URL"]))


@app.task
async def count(counter_id):
    await pool.execute(INCREMENT, time.time(), counter_id)


async def work():
    global pool
    url = os.environ["DATABASE_URL"]
    async with (
        asyncpg.create_pool(url, min_size=CONCURRENCY, max_size=CONCURRENCY) as pool,
        app.open_async(),
    ):
        await app.run_worker_async(concurrency=CONCURRENCY)


@asynccontextmanager
async def open_producer():
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        yield lambda counter_id: count.defer_async(counter_id=counter_id)
