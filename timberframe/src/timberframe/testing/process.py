"""The project's command as its users run it: a process of its own."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx2

from timberframe.testing.subject import project

START_SECONDS = 60  # a busy machine is no failure
STOP_SECONDS = 60


class ServerProcess(NamedTuple):
    url: str
    process: subprocess.Popen[str]
    log: Path


def environment(**settings: str) -> dict[str, str]:
    return {**os.environ, "ENV_FILE": "", **settings}


def command() -> list[str]:
    """The project's command, as installed beside Python."""
    return [str(Path(sys.executable).with_name(project().name))]


def run_command(
    *arguments: str, stdin: str = "", **settings: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command(), *arguments],
        env=environment(**settings),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def with_few_files(count: int) -> list[str]:
    """What stands before a command that may have no more open files, and may not ask for more."""
    limit = f"import resource as r; r.setrlimit(r.RLIMIT_NOFILE, ({count}, {count}))"
    return [sys.executable, "-c", f"{limit}; import os, sys; os.execv(sys.argv[1], sys.argv[1:])"]


@contextmanager
def serving(
    *arguments: str, before: Sequence[str] = (), **settings: str
) -> Iterator[ServerProcess]:
    """A server on a free port that has answered its first request."""
    port = free_port()
    # A file, because a pipe that nobody reads fills up and then blocks the server.
    with tempfile.NamedTemporaryFile(mode="w+") as log:
        process = subprocess.Popen(
            [*before, *command(), "serve", "--port", str(port), *arguments],
            env=environment(**settings),
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
        )
        server = ServerProcess(f"http://127.0.0.1:{port}", process, Path(log.name))
        try:
            _wait_until_it_answers(server)
            yield server
        finally:
            process.terminate()
            try:
                process.wait(timeout=STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


def _wait_until_it_answers(server: ServerProcess) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            httpx2.get(f"{server.url}/health/live")
            return
        except httpx2.TransportError:
            assert server.process.poll() is None, server.log.read_text()
            time.sleep(0.05)
    raise TimeoutError("the server did not start")
