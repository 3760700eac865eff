"""`python -m benchmarks`: the speed of myapi, side by side with the guide's way."""

import os
import secrets
import signal
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.console import Console
from rich.status import Status

from benchmarks.answers import check_equal
from benchmarks.database import OPENERS
from benchmarks.install import install_guide
from benchmarks.load import Measured, measure, open_loader
from benchmarks.machine import OTHER_CORES, pin
from benchmarks.report import Results, print_report
from benchmarks.servers import Server, serve
from benchmarks.systems import SYSTEMS
from benchmarks.work import WORK

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    quick: Annotated[bool, typer.Option("--quick", help="Few rows and little time.")] = False,
    seconds: Annotated[
        float | None, typer.Option(help="Time for each measurement: 4, quick 1.", min=0.1)
    ] = None,
    rounds: Annotated[int, typer.Option(help="Measurements of each.", min=1)] = 5,
    products: Annotated[
        int | None, typer.Option(help="Rows: 1,000,000, quick 10,000.", min=100)
    ] = None,
) -> None:
    """Measure the CPU time, throughput and latency of requests, for each system in turn."""
    seconds = seconds or (1 if quick else 4)
    products = products or (10_000 if quick else 1_000_000)
    # So that `with` blocks also end, and servers with them, when this process is told to.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))

    console = Console(width=None if sys.stdout.isatty() else 100)
    with console.status("Installing the guide's way …") as status:
        install_guide()
        # The servers are stopped first: a measurement under way then fails, not to be waited for.
        with open_loader() as loader, open_servers(products, status) as servers:
            status.update("Checking that all answer the same …")
            check_equal(servers, WORK, products)
            # The loader is started by its first job, and stays on the cores of this process.
            pin(os.getpid(), OTHER_CORES)
            results = measure_all(servers, loader, products, seconds, rounds, status)
    print_report(console, results, products=products, seconds=seconds, rounds=rounds)


@contextmanager
def open_servers(products: int, status: Status) -> Iterator[Sequence[Server]]:
    """All systems, running on filled databases."""
    secret_key = secrets.token_urlsafe(48)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="myapi-benchmark-")))
        urls = {}
        for engine in dict.fromkeys(system.engine for system in SYSTEMS):
            status.update(f"Filling {engine} with {products:,} products …")
            urls[engine] = stack.enter_context(OPENERS[engine](folder, products, secret_key))
        status.update("Starting the servers …")
        yield [
            stack.enter_context(serve(system, urls[system.engine], secret_key, folder))
            for system in SYSTEMS
        ]


def measure_all(
    servers: Sequence[Server],
    loader: Executor,
    products: int,
    seconds: float,
    rounds: int,
    status: Status,
) -> Results:
    """Round by round, so that whatever else the machine does meanwhile falls on all systems."""
    results: dict[tuple[str, str], list[Measured]] = defaultdict(list)
    for number in range(1, rounds + 1):
        for work in WORK:
            for server in servers:
                system = server.system
                status.update(f"Round {number} of {rounds}: {work.name}, {system.name} …")
                requests = work.requests(products, server.token)
                job = loader.submit(measure, server.port, server.pid, requests, seconds)
                try:
                    results[work.name, system.name].append(job.result())
                except (OSError, TimeoutError, ValueError) as failed:
                    sys.exit(f"{system.name} failed at {work.name}: {failed!r}")
    return results


if __name__ == "__main__":
    app()
