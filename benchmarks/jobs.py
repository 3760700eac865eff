"""`python -m benchmarks.jobs`: what background jobs cost, and how soon they begin."""

import asyncio
import secrets
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
import uvloop
from pydantic import SecretStr
from sqlalchemy import func, select, update
from timberframe.data.options import DatabaseOptions
from timberframe.data.session import Database, open_database
from timberframe.jobs import Run, job
from timberframe.jobs.models import JobRecord
from timberframe.jobs.worker import JobOptions, Worker

from benchmarks import document
from benchmarks.database import OPENERS, base_environment
from benchmarks.machine import describe
from benchmarks.systems import SYSTEMS

SEEDED = 1_000
PROBES = 100
PAUSE_SECONDS = 0.03
COLUMNS = (
    *("Engine", "Enqueue ms", "Start p50 ms", "Start p99 ms"),
    *("Jobs/s, 1 worker", "Jobs/s, 2 workers"),
)


@job()
async def count(run: Run, product_id: int) -> None:
    """One row is changed, together with the job's end."""
    from app.models import Product

    async with run.transaction() as db:
        await db.execute(
            update(Product).where(Product.id == product_id).values(stock=Product.stock + 1)
        )


def main(
    jobs: Annotated[int, typer.Option(help="Jobs of each measurement.", min=100)] = 3_000,
    write: Annotated[bool, typer.Option("--write", help="Write it into docs/speed.md.")] = False,
    work: Annotated[bool, typer.Option("--work", hidden=True)] = False,
) -> None:
    """Enqueue jobs, and have one and two worker processes run them."""
    if work:
        uvloop.run(run_worker())
        return
    console = document.new_console()
    rows = []
    systems = [system for system in SYSTEMS if system.is_ours]
    with TemporaryDirectory(prefix="myapi-jobs-") as name, console.status("…") as status:
        for system in systems:
            folder, key = Path(name) / system.engine, secrets.token_urlsafe(48)
            folder.mkdir()
            with OPENERS[system.engine](folder, SEEDED, key) as database:
                status.update(f"{system.engine} …")
                environment = base_environment(database.url, key)
                rows.append([system.engine, *asyncio.run(measure(environment, jobs))])
    document.publish(console, "jobs", report(rows), {}, write=write)


def report(rows: list[list[str]]) -> str:
    return "\n".join(
        (
            "## Background jobs\n",
            "A job changes one row, and its end is committed with that. *Enqueue* is a transaction",
            "of its own, one after the other. *Start* is the time from there to the end of the job",
            "in another process that had nothing to do. Workers have a process each.",
            f"{document.today()}, {describe()}.\n",
            document.table(COLUMNS, rows),
        )
    )


def options_of(environment: dict[str, str]) -> DatabaseOptions:
    from app.core.config import Settings

    return DatabaseOptions.of(Settings(DATABASE_URL=SecretStr(environment["DATABASE_URL"])))


async def run_worker() -> None:
    from app.core.config import settings

    async with open_database(DatabaseOptions.of(settings)) as database:
        await Worker(database, {count.name: count}, JobOptions()).run()


async def measure(environment: dict[str, str], jobs: int) -> list[str]:
    async with open_database(options_of(environment)) as database:
        enqueue_ms = await enqueue(database, jobs)
        rates = [f"{enqueue_ms:.2f}"]
        with workers(1, environment):
            one = await rate(database, jobs)
            latencies = await probe(database)
        await enqueue(database, jobs)
        with workers(2, environment):
            two = await rate(database, jobs)
    quantiles = statistics.quantiles(latencies, n=100)
    starts = [f"{statistics.median(latencies):.1f}", f"{quantiles[98]:.1f}"]
    return [*rates, *starts, f"{one:,.0f}", f"{two:,.0f}"]


@contextmanager
def workers(number: int, environment: dict[str, str]) -> Iterator[None]:
    command = [sys.executable, "-m", "benchmarks.jobs", "--work"]
    quiet = environment | {"LOG_LEVEL": "ERROR"}
    started = [
        subprocess.Popen(command, env=quiet, stdout=subprocess.DEVNULL) for _ in range(number)
    ]
    try:
        yield
    finally:
        for each in started:
            each.kill()
            each.wait()


async def enqueue(database: Database, jobs: int) -> float:
    """Milliseconds for each."""
    began = time.perf_counter()
    for number in range(jobs):
        await count.enqueue(database, product_id=number % SEEDED + 1)
    return (time.perf_counter() - began) / jobs * 1000


async def rate(database: Database, jobs: int) -> float:
    """Jobs a second, from the first tenth to the last: workers take a while to start."""
    first, last = jobs // 10, jobs * 9 // 10
    began = await when_left(database, jobs - first)
    ended = await when_left(database, jobs - last)
    await when_left(database, 0)
    return (last - first) / (ended - began)


async def when_left(database: Database, number: int) -> float:
    waiting = select(func.count()).where(JobRecord.status != "done")
    while True:
        async with database.statements() as db:
            left = await db.scalar(waiting) or 0
        if left <= number:
            return time.perf_counter()
        await asyncio.sleep(0.01)


async def probe(database: Database) -> list[float]:
    """Milliseconds from enqueuing to the end, by the database's clock."""
    ids = []
    for number in range(PROBES):
        await asyncio.sleep(PAUSE_SECONDS)
        ids.append(await count.enqueue(database, product_id=number + 1))
        await when_left(database, 0)
    async with database.reading() as db:
        found = (await db.scalars(select(JobRecord).where(JobRecord.id.in_(ids)))).all()
    return [
        (each.finished_at - each.created_at).total_seconds() * 1000
        for each in found
        if each.finished_at
    ]


if __name__ == "__main__":
    typer.run(main)
