"""A worker with one job, which a schedule runs every second."""

from asyncio import sleep

from pydantic import SecretStr
from sqlalchemy import update

from specimen.config import Settings
from specimen.models import Product
from timberframe.jobs import Run, job
from timberframe.jobs.process import run_worker


@job(schedule="* * * * * *")
async def count_tick(run: Run) -> None:
    """Its effect, and time enough to be killed before it."""
    await sleep(0.2)
    async with run.transaction() as db:
        await db.execute(update(Product).values(stock=Product.stock + 1))


def work(url: str) -> None:
    settings = Settings(DATABASE_URL=SecretStr(url), JOBS_LEASE_SECONDS=1)
    run_worker(settings, {count_tick.name: count_tick})
