"""`python -m benchmarks.service`: the start, the memory, and others while many sign in."""

import json
import os
import secrets
import signal
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from http.client import HTTPConnection
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated
from urllib.parse import urlencode

import typer
from rich.status import Status

from benchmarks import document, machine
from benchmarks.__main__ import target_of
from benchmarks.database import OPENERS
from benchmarks.document import table, verdict
from benchmarks.load import measure, open_loader
from benchmarks.machine import OTHER_CORES, memory_bytes, pin, process_tree
from benchmarks.servers import Server, serve
from benchmarks.systems import SYSTEMS, System
from benchmarks.work import ITEM, READS

PRODUCTS = 10_000
STARTS = 5
SIGN_INS = 64
SIGN_IN_ROUNDS = 3
IDLE_SECONDS = 4
PASSWORD = "Signs-In-Often-1"

MAX_START_SECONDS = 1.5
MAX_MEMORY_MB = 110
FLAT = 1.03  # what memory may grow by in the second half of the requests
MAX_TIMES_IDLE = 3


@dataclass(frozen=True)
class Found:
    start_seconds: float
    fresh_mb: float
    half_mb: float
    full_mb: float
    idle_p99_ms: float
    busy_p99_ms: float


def main(
    requests: Annotated[int, typer.Option(help="After how many memory is looked at.")] = 100_000,
    write: Annotated[bool, typer.Option("--write", help="Write it into docs/speed.md.")] = False,
) -> None:
    """Measure what no single request shows."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    console = document.new_console()
    found = {}
    with console.status("…") as status, open_loader() as loader:
        pin(os.getpid(), OTHER_CORES)
        for system in SYSTEMS:
            if system.is_ours:
                found[system] = examine(system, loader, requests, status)
    document.publish(console, "service", report(found, requests), {}, write=write)


def examine(system: System, loader: Executor, requests: int, status: Status) -> Found:
    secret_key = secrets.token_urlsafe(48)
    with TemporaryDirectory(prefix="myapi-service-") as temporary:
        folder = Path(temporary)
        status.update(f"{system.name}: filling …")
        with OPENERS[system.engine](folder, PRODUCTS, secret_key) as database:
            starts = []
            for number in range(STARTS):
                status.update(f"{system.name}: start {number + 1} …")
                with serve(system, database, secret_key, folder) as server:
                    starts.append(server.start_seconds)
            with serve(system, database, secret_key, folder) as server:
                status.update(f"{system.name}: {requests:,} requests …")
                memory = memory_mb(server, loader, requests)
            with serve(system, database, secret_key, folder) as server:
                status.update(f"{system.name}: {SIGN_INS} sign-ins …")
                beside = read_beside_sign_ins(server)
    return Found(statistics.median(starts), *memory, *beside)


def memory_mb(server: Server, loader: Executor, requests: int) -> tuple[float, float, float]:
    """Of the worker: fresh, after half of the requests, and after all, reads of every kind."""
    fresh = worker_mb(server)
    answered, half = 0, 0.0
    for work in cycle(READS):
        target = target_of(server, work, PRODUCTS)
        answered += loader.submit(measure, target, seconds=1).result().requests
        if not half and answered >= requests / 2:
            half = worker_mb(server)
        if answered >= requests:
            break
    return fresh, half, worker_mb(server)


def worker_mb(server: Server) -> float:
    """The largest process: beside it there is only one that watches over it."""
    return max(memory_bytes([process]) for process in process_tree(server.pid)) / 1e6


def read_beside_sign_ins(server: Server) -> tuple[float, float]:
    """The p99 in ms of one reader's requests, alone and beside sign-ins."""
    names = [f"guest{number}" for number in range(SIGN_INS)]
    with ThreadPoolExecutor(SIGN_INS) as users:
        for done in [users.submit(sign_up, server, name) for name in names]:
            done.result()
        give_up = time.perf_counter() + IDLE_SECONDS
        idle = read_until(server, lambda: time.perf_counter() > give_up)
        busy = []
        for _ in range(SIGN_IN_ROUNDS):
            signing_in = [users.submit(sign_in, server, name) for name in names]
            busy += read_until(server, partial(all_done, signing_in))
    return p99_ms(idle), p99_ms(busy)


def sign_up(server: Server, name: str) -> None:
    user = {"email": f"{name}@example.com", "username": name, "password": PASSWORD}
    post(server, "/api/v1/users/", "application/json", json.dumps(user))


def sign_in(server: Server, name: str) -> None:
    form = urlencode({"username": name, "password": PASSWORD})
    post(server, "/api/v1/auth/login", "application/x-www-form-urlencoded", form)


def post(server: Server, path: str, content_type: str, body: str) -> None:
    """By the simplest client: the reader shares this process, and is not to wait for it."""
    connection = HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("POST", path, body, {"Content-Type": content_type})
    answer = connection.getresponse()
    said = answer.read()
    connection.close()
    if answer.status >= 300:
        sys.exit(f"{path} was answered with {answer.status}: {said[:500]!r}")


def all_done(jobs: list[Future[None]]) -> bool:
    is_over = all(job.done() for job in jobs)
    if is_over:
        for job in jobs:
            job.result()  # or what it failed of
    return is_over


def read_until(server: Server, is_over: Callable[[], bool]) -> list[float]:
    connection = HTTPConnection("127.0.0.1", server.port)
    latencies = []
    for product_id in cycle(range(1, PRODUCTS)):
        if is_over():
            break
        started = time.perf_counter()
        connection.request("GET", ITEM.format(id=product_id))
        answer = connection.getresponse()
        answer.read()
        latencies.append(time.perf_counter() - started)
        if answer.status != HTTPStatus.OK:
            sys.exit(f"A product was answered with {answer.status}")
    connection.close()
    return latencies


def p99_ms(latencies: list[float]) -> float:
    return statistics.quantiles(latencies, n=100, method="inclusive")[98] * 1e3


def report(found: dict[System, Found], requests: int) -> str:
    rows = [row for system, its in found.items() for row in rows_of(system, its, requests)]
    return f"""\
## Start, memory, sign-ins

{table(["", "measured", "wanted", ""], rows)}
The start is from the command to the first product read, the median of {STARTS}. Memory is the RSS
of the one worker, after reads of every kind over 16 connections. The reader asks for one product
after the other, alone and while {SIGN_INS} users sign in at once, whose passwords are hashed on the
same core.

- {document.today()}, {PRODUCTS:,} products
- {machine.describe()}
"""


def rows_of(system: System, its: Found, requests: int) -> list[list[str]]:
    times = its.busy_p99_ms / its.idle_p99_ms
    return [
        [
            f"{system.name}: start",
            f"{its.start_seconds:.2f} s",
            f"under {MAX_START_SECONDS} s",
            verdict(its.start_seconds < MAX_START_SECONDS),
        ],
        [
            f"{system.name}: memory after {requests:,} requests",
            f"{its.full_mb:.0f} MB ({its.fresh_mb:.0f} fresh)",
            f"under {MAX_MEMORY_MB} MB",
            verdict(its.full_mb < MAX_MEMORY_MB),
        ],
        [
            f"{system.name}: the second half of them",
            f"{its.full_mb - its.half_mb:+.1f} MB",
            "flat",
            verdict(its.full_mb < its.half_mb * FLAT),
        ],
        [
            f"{system.name}: p99 beside {SIGN_INS} sign-ins",
            f"{its.busy_p99_ms:.1f} ms, {times:.1f}x of alone",
            f"under {MAX_TIMES_IDLE}x",
            verdict(times < MAX_TIMES_IDLE),
        ],
    ]


if __name__ == "__main__":
    typer.run(main)
