"""Starting and stopping the servers, and signing in to them."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import jwt

from benchmarks.database import READER_EMAIL, READER_ID, READER_PASSWORD, base_environment
from benchmarks.machine import SERVER_CORES, pin
from benchmarks.processes import running
from benchmarks.systems import ROOT, System

START_SECONDS = 30


@dataclass(frozen=True)
class Server:
    """A running system, and a token that it takes."""

    system: System
    port: int
    pid: int
    token: str

    @property
    def url(self) -> str:
        return _url(self.port)


@contextmanager
def serve(system: System, database_url: str, secret_key: str, folder: Path) -> Iterator[Server]:
    port = _free_port()
    log = folder / f"{port}.log"
    command = [part.format(port=port) for part in system.command]
    environment = {**base_environment(database_url, secret_key), **system.environment}
    with running(command, folder=ROOT, log=log, environment=environment) as process:
        pin(process.pid, SERVER_CORES)
        if not _answers(process, port):
            sys.exit(f"{system.name} did not start:\n{log.read_text(errors='replace')[-2000:]}")
        token = _sign_in(port) if system.signs_in else _mint_token(secret_key)
        yield Server(system, port, process.pid, token)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until a product can be read."""
    give_up = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < give_up:
        with suppress(httpx2.TransportError):
            if httpx2.get(f"{_url(port)}/api/v1/products/1").is_success:
                return True
        time.sleep(0.1)
    return False


def _sign_in(port: int) -> str:
    form = {"username": READER_EMAIL, "password": READER_PASSWORD}
    answer = httpx2.post(f"{_url(port)}/api/v1/auth/login", data=form).raise_for_status()
    token: str = answer.json()["access_token"]
    return token


def _mint_token(secret_key: str) -> str:
    expires = datetime.now(UTC) + timedelta(days=1)
    return jwt.encode({"sub": str(READER_ID), "exp": expires}, secret_key, algorithm="HS256")
