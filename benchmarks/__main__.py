"""`python -m benchmarks`: the speed of requests, side by side with the guide's way and peers."""

import os
import secrets
import signal
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.status import Status

from benchmarks import document
from benchmarks.answers import check_equal
from benchmarks.database import OPENERS, Database
from benchmarks.install import install_guide, install_peers
from benchmarks.load import Measured, Target, measure, open_loader
from benchmarks.machine import OTHER_CORES, pin
from benchmarks.report import Results, Run, picture, report
from benchmarks.servers import Server, StartFailed, serve
from benchmarks.systems import SYSTEMS, Runtime, System
from benchmarks.work import READS, WORK, WRITES, Work

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True)
class Started:
    """The systems that run, and why the others do not."""

    servers: Sequence[Server]
    absent: Mapping[str, str]


@app.command()
def main(
    quick: Annotated[bool, typer.Option("--quick", help="Few rows and little time.")] = False,
    seconds: Annotated[
        float | None, typer.Option(help="Time for each measurement: 3, quick 0.5.", min=0.1)
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(help="Measurements of each: 5, quick 2.", min=1)
    ] = None,
    products: Annotated[
        int | None, typer.Option(help="Rows: 1,000,000, quick 10,000.", min=100)
    ] = None,
    peers: Annotated[bool, typer.Option(help="Or only the guide's way and myapi.")] = True,
    write: Annotated[bool, typer.Option("--write", help="Write it into docs/speed.md.")] = False,
) -> None:
    """Measure the CPU time, throughput and latency of requests, for each system in turn."""
    seconds = seconds or (0.5 if quick else 3)
    rounds = rounds or (2 if quick else 5)
    products = products or (10_000 if quick else 1_000_000)
    # So that `with` blocks also end, and servers with them, when this process is told to.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))

    console = document.new_console()
    with console.status("Installing the guide's way and peers …") as status:
        install_guide()
        not_installed = install_peers() if peers else {}
        systems = [system for system in SYSTEMS if peers or not system.is_peer]
        # The servers are stopped first: a measurement under way then fails, not to be waited for.
        with (
            open_loader() as loader,
            open_servers(systems, not_installed, products, status) as started,
        ):
            status.update("Checking that all answer the same …")
            check_equal(started.servers, WORK, products)
            _delete_created(started.servers)
            # The loader is started by its first job, and stays on the cores of this process.
            pin(os.getpid(), OTHER_CORES)
            results = measure_all(started.servers, loader, products, seconds, rounds, status)
    run = Run(products, seconds, rounds, systems, started.absent, results)
    document.publish(console, "requests", report(run), {"speed.svg": picture(run)}, write=write)


@contextmanager
def open_servers(
    systems: Sequence[System],
    not_installed: Mapping[Runtime, str],
    products: int,
    status: Status,
) -> Iterator[Started]:
    """All systems that can run, on filled databases; myapi and the guide's way must."""
    secret_key = secrets.token_urlsafe(48)
    absent = {
        system.name: not_installed[system.runtime]
        for system in systems
        if system.runtime in not_installed
    }
    present = [system for system in systems if system.name not in absent]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="myapi-benchmark-")))
        databases: dict[str, Database] = {}
        for engine in dict.fromkeys(system.engine for system in present):
            status.update(f"Filling {engine} with {products:,} products …")
            databases[engine] = stack.enter_context(OPENERS[engine](folder, products, secret_key))
        status.update("Starting the servers …")
        servers = []
        for system in present:
            serving = serve(system, databases[system.engine], secret_key, folder)
            try:
                servers.append(stack.enter_context(serving))
            except (StartFailed, OSError) as failed:
                if not system.is_peer:
                    sys.exit(str(failed))
                absent[system.name] = str(failed).splitlines()[-1]
        yield Started(servers, absent)


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
    for works in (READS, WRITES):
        for number in range(1, rounds + 1):
            for work in works:
                for server in servers:
                    if server.system.does(work):
                        name = server.system.name
                        status.update(f"{work.name}, round {number} of {rounds}: {name} …")
                        target = target_of(server, work, products)
                        results[work.key, name].append(_measured(loader, name, target, seconds))
            if works is WRITES:
                _delete_created(servers)
    return results


def target_of(server: Server, work: Work, products: int) -> Target:
    return Target(
        work=work,
        path=server.system.path(work),
        products=products,
        token=server.token,
        port=server.port,
        server_pid=server.pid,
        database_pid=server.database.pid,
    )


def _measured(loader: Executor, name: str, target: Target, seconds: float) -> Measured:
    try:
        return loader.submit(measure, target, seconds).result()
    except (OSError, TimeoutError, ValueError) as failed:
        sys.exit(f"{name} failed at {target.work.name}: {failed!r}")


def _delete_created(servers: Sequence[Server]) -> None:
    """So that each round of writes finds the same rows."""
    for database in {id(server.database): server.database for server in servers}.values():
        database.delete_created()


if __name__ == "__main__":
    app()
