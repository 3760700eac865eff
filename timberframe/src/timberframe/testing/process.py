"""The project's command: as its users run it, in a process of its own, and in this one."""

import io
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, redirect_stderr, redirect_stdout
from http.client import HTTPConnection, HTTPException
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx2
import pytest
import structlog

from timberframe.logging import LineWriter
from timberframe.testing import subject
from timberframe.testing.cast import Person
from timberframe.testing.forked import exit_code, fork_command

START_SECONDS = 60  # a busy machine is no failure
STOP_SECONDS = 60


class ServerProcess(NamedTuple):
    url: str
    process: BaseProcess
    log: Path

    def client(self, person: Person | None = None, **options: Any) -> httpx2.AsyncClient:
        """A client of this server; its paths are below `API_V1_PREFIX`.

        It has no certificates, since there is no TLS: to load them takes 20 ms of CPU.
        """
        options = {"headers": person.headers if person else None, "timeout": 60} | options
        base_url = f"{self.url}{subject.settings().API_V1_PREFIX}"
        return httpx2.AsyncClient(base_url=base_url, verify=False, **options)


def environment(**settings: str) -> dict[str, str]:
    # For a project that is not installed.
    return {**os.environ, "ENV_FILE": "", "PYTHONPATH": str(subject.project().root), **settings}


def run_command(
    *arguments: str, stdin: str = "", before: str = "", **settings: str
) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own; `before` and `settings` as in `serving`."""
    with tempfile.TemporaryDirectory() as folder:
        given, output, errors = (Path(folder, name) for name in ("input", "output", "errors"))
        given.write_text(stdin)
        output.touch()
        errors.touch()
        process = fork_command(
            *arguments,
            environment=environment(**settings),
            before=before,
            files=(given, output, errors),
        )
        code = exit_code(process, within=60)
        said = output.read_text(), errors.read_text()
        return subprocess.CompletedProcess(arguments, code, *said)


def call_command(
    *arguments: str, stdin: str = "", **changes: Any
) -> subprocess.CompletedProcess[str]:
    """Run a command in this process: where the process is not the point, it costs far less.

    The settings are those of the test, which may change some of them for this command.
    """
    settings, output, errors = subject.settings(), io.StringIO(), io.StringIO()
    logging = structlog.get_config()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(output), redirect_stderr(errors):
        valid = type(settings)(**changes)
        for name in changes:
            patch.setattr(settings, name, getattr(valid, name))
        patch.setattr(sys, "argv", [subject.project().name, *arguments])
        patch.setattr(sys, "stdin", io.StringIO(stdin))
        # Loggers used for the first time here would keep the level of commands; those of earlier
        # tests have kept another, and a stream that may be closed.
        structlog.configure(cache_logger_on_first_use=False)
        patch.setattr(LineWriter, "stream", io.StringIO())
        try:
            with pytest.raises(SystemExit) as ended:
                subject.main()
        finally:
            structlog.configure(**logging)
    code = ended.value.code
    if isinstance(code, str):  # the interpreter prints it, and fails
        print(code, file=errors)
        code = 1
    return subprocess.CompletedProcess(arguments, code or 0, output.getvalue(), errors.getvalue())


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def serving(*arguments: str, before: str = "", **settings: str) -> Iterator[ServerProcess]:
    """A server on a free port that has answered its first request.

    `before` is code that runs in its process first; `settings` are in its environment.
    """
    port = free_port()
    # A file, because a pipe that nobody reads fills up and then blocks the server.
    with tempfile.NamedTemporaryFile(mode="w+") as file:
        log = Path(file.name)
        process = fork_command(
            *("serve", "--port", str(port), *arguments),
            environment=environment(**settings),
            before=before,
            files=(os.devnull, log, log),
        )
        server = ServerProcess(f"http://127.0.0.1:{port}", process, log)
        try:
            _wait_until_it_answers(server)
            yield server
        finally:
            process.terminate()
            exit_code(process, within=STOP_SECONDS)


def _wait_until_it_answers(server: ServerProcess) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        # Not by httpx2, which loads certificates for each client: 20 ms of CPU for each try.
        with closing(HTTPConnection(urlsplit(server.url).netloc, timeout=5)) as connection:
            try:
                connection.request("GET", "/health/live")
                connection.getresponse()
                return
            except (OSError, HTTPException):
                assert server.process.is_alive(), server.log.read_text()
        time.sleep(0.05)
    raise TimeoutError("the server did not start")
