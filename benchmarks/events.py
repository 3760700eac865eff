"""`python -m benchmarks.events`: what an event adds to a change, and how many fit in a second."""

import asyncio
import os
import secrets
import signal
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import asyncpg
import typer
import uvloop
from pydantic import SecretStr
from rich.status import Status
from sqlalchemy import Connection, Table
from timberframe.data.events import create_v1, declared_events, drop_v1, read_recorded
from timberframe.data.options import DatabaseOptions
from timberframe.data.session import open_database

from benchmarks import document
from benchmarks.__main__ import target_of
from benchmarks.database import OPENERS, Database
from benchmarks.load import Measured, measure, open_loader
from benchmarks.machine import OTHER_CORES, SERVER_CORES, describe, pin
from benchmarks.servers import Server, serve
from benchmarks.systems import SYSTEMS
from benchmarks.work import WRITES

PRODUCTS = 1_000
WRITERS = (1, 4, 16)
INSERT = """
    INSERT INTO products (sku, name, price_cents, currency, owner_id, created_at, updated_at)
    VALUES ($1, 'Folding Oak Chair', 1999, 'EUR', 1, now(), now())"""

Rates = Mapping[tuple[int, bool], float]  # by the number of writers, and whether there are events


def main(
    seconds: Annotated[float, typer.Option(help="Time for each measurement.", min=0.1)] = 2,
    rounds: Annotated[int, typer.Option(help="Measurements of each.", min=1)] = 5,
    write: Annotated[bool, typer.Option("--write", help="Write it into docs/speed.md.")] = False,
) -> None:
    """Create products with the triggers that write events, and without them."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    os.environ["SECRET_KEY"] = key = secrets.token_urlsafe(48)
    console = document.new_console()
    rows: list[Sequence[str]] = []
    rates: Rates = {}
    with console.status("…") as status, open_loader() as loader:
        for system in SYSTEMS:
            if not system.is_ours:
                continue
            with TemporaryDirectory(prefix="myapi-events-") as name:
                folder = Path(name)
                status.update(f"{system.name}: filling …")
                with OPENERS[system.engine](folder, PRODUCTS, key) as database:
                    with serve(system, database, key, folder) as server:
                        rows += measure_requests(server, loader, seconds, rounds, status)
                    if system.engine == "PostgreSQL":
                        rates = measure_writers(database, seconds, rounds, status)
    document.publish(console, "events", report(rows, rates, seconds, rounds), {}, write=write)


def measure_requests(
    server: Server, loader: Executor, seconds: float, rounds: int, status: Status
) -> list[Sequence[str]]:
    target = target_of(server, WRITES[0], PRODUCTS)
    found: dict[bool, list[Measured]] = {False: [], True: []}
    for number in range(1, rounds + 1):
        for has_events, measured in found.items():
            status.update(f"{server.system.name}: round {number} …")
            set_events(server.database, has_events)
            measured.append(loader.submit(measure, target, seconds, connections=1).result())
    return [
        [server.system.name, "with" if has_events else "without", *figures(measured)]
        for has_events, measured in found.items()
    ]


def figures(measured: Sequence[Measured]) -> list[str]:
    database_us = [each.database_us for each in measured if each.database_us is not None]
    return [
        f"{statistics.median(each.cpu_us for each in measured):,.0f}",
        f"{statistics.median(database_us):,.0f}" if database_us else "in it",
        f"{statistics.median(each.p50_ms for each in measured):.2f}",
    ]


def measure_writers(database: Database, seconds: float, rounds: int, status: Status) -> Rates:
    if database.pid:
        pin(database.pid, SERVER_CORES | OTHER_CORES)  # there is no other server here
    found: dict[tuple[int, bool], list[float]] = {}
    for number in range(1, rounds + 1):
        for has_events in (False, True):
            set_events(database, has_events)
            for writers in WRITERS:
                status.update(f"{writers} writers: round {number} …")
                rate = uvloop.run(insert_rate(database.url, writers, seconds))
                found.setdefault((writers, has_events), []).append(rate)
    return {each: statistics.median(rates) for each, rates in found.items()}


async def insert_rate(url: str, writers: int, seconds: float) -> float:
    """Products a second, each committed by itself, without an application."""
    run, numbers = secrets.token_hex(6), count()

    async def insert_until(deadline: float) -> None:
        while time.perf_counter() < deadline:
            await pool.execute(INSERT, f"{run}-{next(numbers)}")

    async with asyncpg.create_pool(url, min_size=writers, max_size=writers) as pool:
        began = time.perf_counter()
        await asyncio.gather(*(insert_until(began + seconds) for _ in range(writers)))
        return next(numbers) / (time.perf_counter() - began)


def set_events(database: Database, has_events: bool) -> None:
    """Create the triggers of products or drop them, as a migration does."""
    asyncio.run(_set_events(database.url, has_events))


async def _set_events(url: str, has_events: bool) -> None:
    from app.core.config import Settings
    from app.crud import product_crud

    options = DatabaseOptions.of(Settings(DATABASE_URL=SecretStr(url)))
    async with open_database(options) as opened, opened.engine.begin() as connection:
        table: Any = product_crud.model.__table__
        await connection.run_sync(change_triggers, table, has_events)


def change_triggers(connection: Connection, table: Table, has_events: bool) -> None:
    if has_events == (table.name in read_recorded(connection)):
        return
    if not has_events:
        drop_v1(connection, table.name)
    elif events := declared_events(table):
        options = {"is_soft_deletable": events.is_soft_deletable}
        create_v1(connection, table.name, events.name, *events.columns, **options)


def report(rows: Sequence[Sequence[str]], rates: Rates, seconds: float, rounds: int) -> str:
    columns = ("", "Events", "myapi, CPU µs", "PostgreSQL, CPU µs", "p50 ms")
    writers = [
        [f"{each}", *(f"{rates[each, has_events]:,.0f}" for has_events in (False, True))]
        for each in WRITERS
    ]
    return f"""\
## Events

`POST /products/` by one client, with the triggers that write an event and without them.

{document.table(columns, rows)}
Products that were inserted into PostgreSQL in a second by one INSERT and commit each, without an
application: with events, commits go one after another. Each is synced to disk.

{document.table(("Writers", "Without events", "With events"), writers)}
- {document.today()}, medians of {rounds} rounds of {seconds:g} s
- {describe()}
"""


if __name__ == "__main__":
    typer.run(main)
