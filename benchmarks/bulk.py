"""`python -m benchmarks.bulk`: a million products in and out, on both engines."""

import filecmp
import random
import secrets
import signal
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import httpx2
import typer

from app.seed import NAMES
from benchmarks import document
from benchmarks.database import OPENERS
from benchmarks.machine import describe, memory_bytes, process_tree
from benchmarks.servers import Server, serve
from benchmarks.systems import SYSTEMS

SEEDED = 100
EXPORT = "export.csv"
PAUSE_SECONDS = 0.02
LOOK_SECONDS = 0.2
PATIENCE_SECONDS = 3600
COLUMNS = (
    *("Engine", "Work", "Rows", "Seconds", "Rows/s", "Peak MB"),
    *("Reads p99 ms", "Writes p99 ms", "Refused"),
)


@dataclass
class Beside:
    """What others met meanwhile: the latencies of their requests, and how many were refused."""

    peak_bytes: int = 0
    reads: list[float] = field(default_factory=list)
    writes: list[float] = field(default_factory=list)
    refused: int = 0


def main(
    rows: Annotated[int, typer.Option(help="Products in the file.", min=100)] = 1_000_000,
    write: Annotated[bool, typer.Option("--write", help="Write it into docs/speed.md.")] = False,
) -> None:
    """Import and export over HTTP, while others read and write."""
    # So that servers end with this process when it is told to.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    console = document.new_console()
    done = []
    systems = [system for system in SYSTEMS if system.is_ours]
    with TemporaryDirectory(prefix="myapi-bulk-") as name, console.status("…") as status:
        file = Path(name) / "products.csv"
        write_file(file, rows)
        for system in systems:
            first, second = (Path(name) / system.engine / mode for mode in ("all", "skip"))
            for folder, source in ((first, file), (second, first / EXPORT)):
                folder.mkdir(parents=True)
                key = secrets.token_urlsafe(48)
                with (
                    OPENERS[system.engine](folder, SEEDED, key) as database,
                    serve(system, database, key, folder) as server,
                ):
                    for what, work in works(server, source, folder.name, folder):
                        status.update(f"{system.engine}: {what} …")
                        done.append([system.engine, *measure(server, what, work, rows)])
            if not filecmp.cmp(first / EXPORT, second / EXPORT, shallow=False):
                sys.exit(f"{system.engine}: what was exported came back otherwise")
    document.publish(console, "bulk", report(done), {}, write=write)


def report(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(
        (
            "## Import and export\n",
            "Over HTTP, while somebody reads and somebody writes another product, one request",
            "after the other; the memory is that of all processes of the server. Mode `skip`",
            "imports what was exported, into a new database, whose own export is the same file.",
            f"{document.today()}, {describe()}.\n",
            document.table(COLUMNS, rows),
        )
    )


def write_file(file: Path, rows: int) -> None:
    choose = random.Random(0)
    with file.open("w", newline="") as lines:
        lines.write("sku,name,description,price,currency,stock,is_active\r\n")
        for n in range(rows):
            name = " ".join(choose.choice(NAMES))
            price = f"{choose.randrange(1000)}.{choose.randrange(100):02}"
            lines.write(f'S-{n},{name},"{name}, number {n}.",{price},EUR,{n % 1000},true\r\n')


def works(
    server: Server, source: Path, mode: str, folder: Path
) -> Iterator[tuple[str, Callable[[], None]]]:
    client = httpx2.Client(
        base_url=f"{server.url}/api/v1/products",
        headers={"Authorization": f"Bearer {server.token}"},
        timeout=PATIENCE_SECONDS,
    )

    def send() -> None:
        with source.open("rb") as content:
            answer = client.post(
                "/import",
                params={"mode": mode},
                content=iter(lambda: content.read(65536), b""),
                headers={"Content-Type": "text/csv"},
            )
        answer.raise_for_status()

    def receive(file_format: str) -> None:
        params = {"format": file_format, "sku__prefix": "S-"}
        headers = {"Accept-Encoding": "identity"}
        with (
            client.stream("GET", "/export", params=params, headers=headers) as answer,
            (folder / f"export.{file_format}").open("wb") as file,
        ):
            answer.raise_for_status()
            for piece in answer.iter_raw():
                file.write(piece)

    yield f"import, mode {mode}", send
    if mode == "all":
        yield "import again, unchanged", send
        yield "export, jsonl", partial(receive, "jsonl")
    yield "export, csv", partial(receive, "csv")


def measure(server: Server, what: str, work: Callable[[], None], rows: int) -> list[str]:
    with others(server) as beside:
        started = time.perf_counter()
        work()
        seconds = time.perf_counter() - started
    return [
        what,
        f"{rows:,}",
        f"{seconds:.1f}",
        f"{rows / seconds:,.0f}",
        f"{beside.peak_bytes / 1e6:.0f}",
        p99(beside.reads),
        p99(beside.writes),
        str(beside.refused),
    ]


def p99(latencies: list[float]) -> str:
    if len(latencies) < 2:
        return "-"
    return f"{statistics.quantiles(latencies, n=100, method='inclusive')[98] * 1e3:.0f}"


@contextmanager
def others(server: Server) -> Iterator[Beside]:
    """Somebody who reads and somebody who writes, one request after the other, and the memory."""
    beside, is_over = Beside(), threading.Event()
    headers = {"Authorization": f"Bearer {server.token}"}

    def call(latencies: list[float], method: str, path: str, **body: Any) -> None:
        with httpx2.Client(base_url=server.url, headers=headers, timeout=60) as client:
            while not is_over.wait(PAUSE_SECONDS):
                started = time.perf_counter()
                answer = client.request(method, path, **body)
                latencies.append(time.perf_counter() - started)
                beside.refused += answer.status_code >= 500

    def watch_memory() -> None:
        while not is_over.wait(LOOK_SECONDS):
            beside.peak_bytes = max(beside.peak_bytes, memory_bytes(process_tree(server.pid)))

    product = f"/api/v1/products/{SEEDED // 2}"
    threads = [
        threading.Thread(target=call, args=(beside.reads, "GET", product)),
        threading.Thread(
            target=call, args=(beside.writes, "PATCH", product), kwargs={"json": {"stock": 5}}
        ),
        threading.Thread(target=watch_memory),
    ]
    for thread in threads:
        thread.start()
    try:
        yield beside
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    typer.run(main)
