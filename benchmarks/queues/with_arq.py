"""arq: a queue in Redis or Valkey."""

import os
import time
from contextlib import asynccontextmanager

import asyncpg
from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import Worker

from benchmarks.queues.process import CONCURRENCY, INCREMENT

redis = RedisSettings.from_dsn(os.environ["REDIS_URL"])


async def count(ctx, counter_id):
    await ctx["pool"].execute(INCREMENT, time.time(), counter_id)


async def work():
    url = os.environ["DATABASE_URL"]
    options = {}
    if delay := os.environ.get("POLL_DELAY_SECONDS"):
        options["poll_delay"] = float(delay)
    async with asyncpg.create_pool(url, min_size=CONCURRENCY, max_size=CONCURRENCY) as pool:
        context = {"pool": pool}
        worker = Worker([count], redis_settings=redis, ctx=context, max_jobs=CONCURRENCY, **options)
        await worker.async_run()


@asynccontextmanager
async def open_producer():
    pool = await create_pool(redis)
    yield lambda counter_id: pool.enqueue_job("count", counter_id)
    await pool.aclose()
