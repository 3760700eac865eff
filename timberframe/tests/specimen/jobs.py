"""Jobs that do what jobs may do: count, fail, hang, block, and die."""

import os
import time
from asyncio import sleep
from datetime import timedelta

from sqlalchemy import update

from specimen.models import Product
from timberframe.jobs import Run, job

SOON = timedelta(milliseconds=50)


@job()
async def add_to_stock(run: Run, product_id: int, pause_seconds: float = 0) -> None:
    await sleep(pause_seconds)
    async with run.transaction() as db:
        await db.execute(
            update(Product).where(Product.id == product_id).values(stock=Product.stock + 1)
        )


@job()
async def add_later(run: Run, product_id: int) -> None:
    async with run.transaction() as db:
        await add_to_stock.enqueue(db, product_id=product_id)


@job(max_attempts=3, backoff=SOON)
async def fail(run: Run, until_attempt: int = 100) -> None:
    if run.attempt < until_attempt:
        raise ValueError(f"attempt {run.attempt} of job {run.id}")


@job(max_attempts=1, timeout=timedelta(seconds=0.2))
async def hang(run: Run) -> None:
    await sleep(3600)


@job()
async def block(run: Run) -> None:
    time.sleep(3600)  # noqa: ASYNC251 - which is the point


@job(max_attempts=20)
async def die(run: Run) -> None:
    os.kill(os.getpid(), 9)


@job(schedule="* * * * * *")
async def tick(run: Run) -> None:
    pass


JOBS = (add_to_stock, add_later, fail, hang, block, die)
