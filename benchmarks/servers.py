"""Starting and stopping the servers, and signing in to them."""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import jwt

from benchmarks.database import (
    READER_EMAIL,
    READER_ID,
    READER_PASSWORD,
    Database,
    base_environment,
)
from benchmarks.machine import SERVER_CORES, pin
from benchmarks.processes import running
from benchmarks.systems import ROOT, System
from benchmarks.work import READS

START_SECONDS = 30


class StartFailed(Exception):
    """What a system said that did not start."""


@dataclass(frozen=True)
class Server:
    """A running system, and a token that it takes."""

    system: System
    database: Database
    port: int
    pid: int
    token: str
    start_seconds: float

    @property
    def url(self) -> str:
        return _url(self.port)


@contextmanager
def serve(system: System, database: Database, secret_key: str, folder: Path) -> Iterator[Server]:
    port = _free_port()
    log = folder / f"{port}.log"
    command = [part.format(port=port, database=database.url) for part in system.command]
    environment = {**base_environment(database.url, secret_key), **system.environment}
    environment["PORT"] = str(port)
    started = time.perf_counter()
    with running(command, folder=ROOT, log=log, environment=environment) as process:
        pin(process.pid, SERVER_CORES)
        if not _answers(process, port, system.path(READS[0]).format(id=1)):
            said = log.read_text(errors="replace").strip()[-2000:]
            raise StartFailed(f"{system.name} did not start:\n{said}")
        start_seconds = time.perf_counter() - started
        token = _sign_in(port) if system.signs_in else _mint_token(secret_key)
        yield Server(system, database, port, process.pid, token, start_seconds)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def _answers(process: subprocess.Popen[bytes], port: int, path: str) -> bool:
    """Wait until a product can be read."""
    give_up = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < give_up:
        with suppress(httpx2.TransportError):
            if httpx2.get(f"{_url(port)}{path}").is_success:
                return True
        time.sleep(0.02)
    return False


def _sign_in(port: int) -> str:
    form = {"username": READER_EMAIL, "password": READER_PASSWORD}
    answer = httpx2.post(f"{_url(port)}/api/v1/auth/login", data=form).raise_for_status()
    token: str = answer.json()["access_token"]
    return token


def _mint_token(secret_key: str) -> str:
    now = datetime.now(UTC)
    claims = {"sub": str(READER_ID), "iat": now, "exp": now + timedelta(days=1)}
    return jwt.encode(claims, secret_key, algorithm="HS256")
