"""`jobs`: what an operator sees of the queue, and does about it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from pydantic_core import to_json
from rich.console import Console
from rich.live import Live
from rich.table import Table
from sqlalchemy import func, select

from timberframe.data.base import utc_now
from timberframe.data.options import DatabaseOptions
from timberframe.data.session import Database, open_database
from timberframe.errors import CommandError
from timberframe.jobs import queue
from timberframe.jobs.declaration import Job
from timberframe.jobs.models import JobRecord, Status
from timberframe.jobs.worker import JobOptions, Worker

T = TypeVar("T")

WATCH_SECONDS = 1
_STYLES = {
    Status.QUEUED: "cyan",
    Status.RUNNING: "yellow",
    Status.DONE: "green",
    Status.DEAD: "red",
}


def run(options: DatabaseOptions, act: Callable[[Database], Awaitable[T]]) -> T:
    async def opened() -> T:
        async with open_database(options) as database:
            return await act(database)

    return asyncio.run(opened())


async def find_jobs(
    database: Database, *, status: str | None, name: str | None, limit: int
) -> Sequence[JobRecord]:
    """The newest first."""
    found = select(JobRecord).order_by(JobRecord.id.desc()).limit(limit)
    if status:
        found = found.where(JobRecord.status == status)
    if name:
        found = found.where(JobRecord.name == name)
    async with database.reading() as db:
        return (await db.scalars(found)).all()


async def find_job(database: Database, job_id: int) -> JobRecord:
    async with database.reading() as db:
        if record := await db.get(JobRecord, job_id):
            return record
    raise CommandError(f"there is no job {job_id}")


async def count_jobs(database: Database) -> dict[str, int]:
    counted = select(JobRecord.status, func.count()).group_by(JobRecord.status)
    async with database.reading() as db:
        found = {row[0]: row[1] for row in await db.execute(counted)}
    return {status: found.get(status, 0) for status in Status}


async def retry(database: Database, job_id: int) -> None:
    async with database.transaction() as db:
        if await queue.retry(db, job_id):
            return
    status = (await find_job(database, job_id)).status
    raise CommandError(f"job {job_id} is {status}: only one that is queued or dead can be retried")


async def drop(database: Database, job_id: int) -> None:
    async with database.transaction() as db:
        if await queue.drop(db, job_id):
            return
    await find_job(database, job_id)
    raise CommandError(f"job {job_id} is running: it can be dropped once it has ended")


async def run_here(
    database: Database, jobs: Mapping[str, Job[Any]], job_id: int, options: JobOptions
) -> JobRecord:
    """Run a job in this process, whenever it is due."""
    record = await find_job(database, job_id)
    if record.name not in jobs:
        raise CommandError(f"job {job_id} is a {record.name}, which this application does not have")
    await retry(database, job_id)
    await Worker(database, jobs, options).run_one(job_id)
    return await find_job(database, job_id)


def table_of(records: Sequence[JobRecord], counts: Mapping[str, int]) -> Table:
    caption = ", ".join(f"{count} {status}" for status, count in counts.items())
    table = Table(box=None, pad_edge=False, header_style="bold", caption=caption)
    table.caption_justify = "left"
    for heading in ("ID", "JOB", "STATUS", "TRIES", "WHEN", "ERROR"):
        table.add_column(heading, no_wrap=heading != "ERROR", overflow="fold")
    now = utc_now()
    for record in records:
        is_open = record.status in (Status.QUEUED, Status.RUNNING)
        moment = record.run_at if is_open else record.finished_at or record.run_at
        style = _STYLES[Status(record.status)]
        table.add_row(
            str(record.id),
            record.name,
            f"[{style}]{record.status}[/]",
            str(record.attempts),
            _in_words((moment - now).total_seconds()),
            (record.error or "").replace("[", r"\["),
        )
    return table


def _in_words(seconds: float) -> str:
    for name, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if abs(seconds) >= length:
            count = f"{abs(seconds) / length:.0f} {name}"
            break
    else:
        count = f"{abs(seconds):.0f} s"
    return f"in {count}" if seconds > 0 else f"{count} ago"


def as_json(record: JobRecord) -> str:
    values = {column.key: getattr(record, column.key) for column in JobRecord.__table__.columns}
    return to_json(values, indent=2).decode()


def watch(options: DatabaseOptions, **filters: Any) -> None:
    """Show the table until Ctrl+C, and again each second."""

    async def show(database: Database) -> None:
        with Live(console=Console(), auto_refresh=False, screen=True) as live:
            while True:
                records = await find_jobs(database, **filters)
                live.update(table_of(records, await count_jobs(database)), refresh=True)
                await asyncio.sleep(WATCH_SECONDS)

    run(options, show)
