"""`python -m benchmarks.streams`: what live streams cost, and that none of them misses an event."""

import asyncio
import secrets
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import psutil
import typer
import uvloop
from sqlalchemy import select, update
from timberframe.data.events import Event
from timberframe.data.session import Database, open_database
from timberframe.testing.process import free_port

from benchmarks import document
from benchmarks.database import OPENERS, base_environment
from benchmarks.jobs import options_of
from benchmarks.machine import describe
from benchmarks.systems import SYSTEMS

PAUSE_SECONDS = 0.005  # between two changes
COLUMNS = (
    *("Engine", "Streams", "Changes", "Told, each once and in order", "Missed", "Doubled"),
    *("Delay p50 ms", "Delay p99 ms", "CPU µs an event and stream"),
)


class Client:
    """A stream that is opened again after its last event, as `EventSource` does."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.ids: list[int] = []
        self.delays: list[float] = []
        self.position = b""

    async def follow(self) -> None:
        while True:
            with suppress(OSError, asyncio.IncompleteReadError):
                await self._follow_once()
            await asyncio.sleep(0.2)

    async def _follow_once(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            last = b"Last-Event-ID: " + self.position + b"\r\n" if self.position else b""
            writer.write(
                b"GET /api/v1/products/events HTTP/1.1\r\nHost: 127.0.0.1\r\n" + last + b"\r\n"
            )
            event = data = b""
            while True:
                line = (await reader.readuntil(b"\n")).strip()
                if line.startswith(b"event: "):
                    event = line[7:]
                elif line.startswith(b"data: "):
                    data = line[6:]
                elif line.startswith(b"id: "):
                    self.position = line[4:]
                elif not line:
                    if data:
                        if event != b"product.updated":
                            raise RuntimeError(event.decode())
                        self.ids.append(int(self.position))
                        self.delays.append(time.time())
                    event = data = b""
        finally:
            writer.close()


def main(
    streams: Annotated[int, typer.Option(min=1)] = 200,
    changes: Annotated[int, typer.Option(min=10)] = 1_000,
    write: Annotated[bool, typer.Option("--write", help="Write it into docs/speed.md.")] = False,
) -> None:
    """Follow products by many streams of two processes; one is killed while products change."""
    console = document.new_console()
    rows = []
    with TemporaryDirectory(prefix="myapi-streams-") as name, console.status("…") as status:
        for system in [system for system in SYSTEMS if system.is_ours]:
            folder, key = Path(name) / system.engine, secrets.token_urlsafe(48)
            folder.mkdir()
            with OPENERS[system.engine](folder, changes, key) as database:
                status.update(f"{system.engine} …")
                environment = base_environment(database.url, key)
                rows.append([system.engine, *uvloop.run(measure(environment, streams, changes))])
    document.publish(console, "streams", report(rows), {}, write=write)


def report(rows: list[list[str]]) -> str:
    return "\n".join(
        (
            "## Live streams\n",
            "Clients follow all products by streams of two processes, and connect again with",
            "`Last-Event-ID` when they are cut off. Products are changed one after the other,",
            "and meanwhile one of the processes is killed with `kill -9`. *Delay* is the time",
            "from an event to its arrival at a client, while both processes run. CPU is the",
            "servers'.",
            f"{document.today()}, {describe()}.\n",
            document.table(COLUMNS, rows),
        )
    )


@contextmanager
def serving(environment: dict[str, str], streams: int) -> Iterator[tuple[int, psutil.Process]]:
    port = free_port()
    command = [str(Path(sys.executable).with_name("myapi")), "serve", "--workers", "2"]
    limits = dict.fromkeys(("MAX_EVENT_STREAMS", "MAX_EVENT_STREAMS_PER_CLIENT"), str(streams))
    server = subprocess.Popen(
        [*command, "--port", str(port)],
        env=environment | limits | {"LOG_LEVEL": "ERROR", "EMBEDDED_WORKER": "false"},
        stdout=subprocess.DEVNULL,
    )
    try:
        yield port, psutil.Process(server.pid)
    finally:
        server.terminate()
        server.wait()


async def measure(environment: dict[str, str], streams: int, changes: int) -> list[str]:
    async with open_database(options_of(environment)) as database:
        with serving(environment, streams) as (port, server):
            clients = [Client(port) for _ in range(streams)]
            following = [asyncio.create_task(client.follow()) for client in clients]
            async with asyncio.timeout(60):
                while not all(client.position for client in clients):  # noqa: ASYNC110 - no event
                    await asyncio.sleep(0.05)
            first = int(clients[0].position)
            used = cpu(server)
            half = changes // 2
            await change(database, range(1, half + 1))
            await settle(clients, half)
            used = cpu(server) - used
            at = await times(database, first)
            delays = [
                (arrived - at[event]) * 1000
                for client in clients
                for event, arrived in zip(client.ids, client.delays, strict=True)
            ]
            changing = asyncio.create_task(change(database, range(half + 1, changes + 1)))
            await asyncio.sleep(half * PAUSE_SECONDS / 2)
            server.children()[0].kill()
            await changing
            await settle(clients, changes)
            for task in following:
                task.cancel()
            await asyncio.gather(*following, return_exceptions=True)
        ids = list(await times(database, first))
    missed = sum(len(set(ids) - set(client.ids)) for client in clients)
    doubled = sum(len(client.ids) - len(set(client.ids)) for client in clients)
    right = sum(client.ids == ids for client in clients)
    return [
        *(f"{streams}", f"{changes:,}", f"{right} of {streams}", f"{missed}", f"{doubled}"),
        f"{statistics.median(delays):.0f}",
        f"{statistics.quantiles(delays, n=100)[98]:.0f}",
        f"{used / half / streams * 1e6:.1f}",
    ]


async def change(database: Database, numbers: range) -> None:
    from app.models import Product

    for number in numbers:
        async with database.transaction() as db:
            changed = update(Product).where(Product.id == number)
            await db.execute(changed.values(stock=Product.stock + 1))
        await asyncio.sleep(PAUSE_SECONDS)


async def settle(clients: list[Client], count: int) -> None:
    """Wait until all have as many events, or nothing has come for some seconds."""
    last = time.monotonic()
    before = 0
    while any(len(client.ids) < count for client in clients):
        if (now := sum(len(client.ids) for client in clients)) > before:
            before, last = now, time.monotonic()
        if time.monotonic() - last > 10:
            return
        await asyncio.sleep(0.05)


async def times(database: Database, after: int) -> dict[int, float]:
    """When each event was written, by its id, in order."""
    found = select(Event.id, Event.created_at).order_by(Event.id)
    async with database.reading() as db:
        rows = await db.execute(found.where(Event.resource == "products", Event.id > after))
        return {event: at.astimezone(UTC).timestamp() for event, at in rows}


def cpu(server: psutil.Process) -> float:
    times = (each.cpu_times() for each in server.children(recursive=True))
    return float(sum(each.user + each.system for each in times))


if __name__ == "__main__":
    typer.run(main)
