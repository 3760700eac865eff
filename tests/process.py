"""The `myapi` command as its users run it: a process of its own."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx2

MYAPI = str(Path(sys.executable).with_name("myapi"))
START_SECONDS = 20


class ServerProcess(NamedTuple):
    url: str
    process: subprocess.Popen[str]


def environment(**settings: str) -> dict[str, str]:
    return {**os.environ, "ENV_FILE": "", **settings}


def run_myapi(
    *arguments: str, stdin: str = "", **settings: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [MYAPI, *arguments],
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


@contextmanager
def serving(*arguments: str, **settings: str) -> Iterator[ServerProcess]:
    """A server on a free port that has answered its first request."""
    port = free_port()
    process = subprocess.Popen(
        [MYAPI, "serve", "--port", str(port), *arguments],
        env=environment(**settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until_it_answers(url, process)
        yield ServerProcess(url, process)
    finally:
        process.terminate()
        process.communicate(timeout=START_SECONDS)


def _wait_until_it_answers(url: str, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            httpx2.get(f"{url}/health/live")
            return
        except httpx2.TransportError:
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.05)
    raise TimeoutError("the server did not start")
