"""`serve` under clients that send nothing, under signals at any moment, and under kill -9."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import httpx2
import psutil
import pytest

from specimen.config import settings
from timberframe.errors import AppError
from timberframe.http.bodies import MAX_DISCARDING_SECONDS
from timberframe.server import Server
from timberframe.testing import ServerProcess, environment, free_port, run_command, serving
from timberframe.testing.forked import exit_code, fork_command

pytestmark = pytest.mark.seconds(10)

HEAD = b"POST /api/v1/users/ HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
TOO_LARGE = HEAD + b"Content-Length: 99999999\r\n\r\n{"
STALLED = HEAD + b"Content-Length: 100\r\n\r\n{"
STOP_SECONDS = 25  # a signal that is lost costs GRACEFUL_TIMEOUT_SECONDS, which is longer
PATIENCE_SECONDS = 30
CONNECTIONS = 10
MAIN = "import sys; sys.argv[0] = 'specimen'; from specimen.cli import main; main()"
WITH_FEW_FILES = "import resource as r; r.setrlimit(r.RLIMIT_NOFILE, (256, 256))"


def connect(server: ServerProcess, sent: bytes = b"") -> socket.socket:
    host, port = server.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=PATIENCE_SECONDS)
    connection.sendall(sent)
    return connection


def received(connection: socket.socket) -> bytes:
    """All that comes until the server closes the connection."""
    answer = b""
    while piece := connection.recv(65536):
        answer += piece
    return answer


def health(
    server: ServerProcess, *, path: str = "/health", timeout: float = PATIENCE_SECONDS
) -> int:
    # A connection of its own, as a probe has; to load certificates for it would take 20 ms.
    return httpx2.get(f"{server.url}{path}", timeout=timeout, verify=False).status_code


def one_is_new(parent: psutil.Process, before: set[psutil.Process]) -> bool:
    return len({*parent.children()} - before) == 1


def processes(server: ServerProcess) -> list[psutil.Process]:
    parent = psutil.Process(server.process.pid)
    return [parent, *parent.children()]


@pytest.fixture(scope="module")
def database_url(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("serve") / "specimen.db"
    shutil.copyfile(sqlite_template, file)
    return f"sqlite:///{file}"


PATIENT = {
    "MAX_CONNECTIONS": str(CONNECTIONS),
    "BODY_PIECE_TIMEOUT_SECONDS": "600",
    "BODY_TIMEOUT_SECONDS": "600",
}


@pytest.fixture(scope="module")
def patient(database_url: str) -> Iterator[ServerProcess]:
    """A server with few connections that lets bodies stall."""
    with serving(DATABASE_URL=database_url, **PATIENT) as server:
        yield server


@pytest.fixture(scope="module")
def impatient(database_url: str) -> Iterator[ServerProcess]:
    """A server with few connections that waits for nobody longer than a second or two."""
    shorter = "from timberframe import server; server.UNREAD_SECONDS = 1"
    settings = {
        "DATABASE_URL": database_url,
        "MAX_CONNECTIONS": str(CONNECTIONS),
        "BODY_PIECE_TIMEOUT_SECONDS": "1",
        "BODY_TIMEOUT_SECONDS": "2",
    }
    with serving(before=shorter, **settings) as server:
        yield server


def test_probes_are_answered_however_many_bodies_are_too_large(patient: ServerProcess) -> None:
    """Each is refused at once, and then waited for: its client might send all before it reads."""
    with ExitStack() as stack:
        for _ in range(CONNECTIONS):
            stack.enter_context(connect(patient, TOO_LARGE))
        began = time.monotonic()
        for _ in range(3):
            assert health(patient) == 200
        assert time.monotonic() - began < MAX_DISCARDING_SECONDS / 2


@pytest.mark.skipif(sys.platform != "linux", reason="an option of Linux's sockets")
def test_answers_that_nobody_reads_end(impatient: ServerProcess, patient: ServerProcess) -> None:
    """Where they may go on for long, which is the control, they hold every connection."""
    with ExitStack() as stack:
        leave_unread(patient, stack)
        leave_unread(impatient, stack)
        wait_until(lambda: is_answering(impatient))
        assert not is_answering(patient)


def leave_unread(server: ServerProcess, stack: ExitStack) -> None:
    """Ask for much on each connection that there may be, and read nothing."""
    many = b"GET /api/openapi.json HTTP/1.1\r\nHost: a\r\n\r\n" * 40
    for _ in range(CONNECTIONS):
        unread = stack.enter_context(socket.socket())
        unread.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        unread.connect(("127.0.0.1", httpx2.URL(server.url).port))
        unread.sendall(many)


def is_answering(server: ServerProcess) -> bool:
    try:
        return health(server, path="/health/live", timeout=2) == 200
    except httpx2.TimeoutException:
        return False


def test_probes_are_answered_however_many_bodies_stall(patient: ServerProcess) -> None:
    stall(patient, workers=1)


def stall(server: ServerProcess, *, workers: int) -> None:
    """Twice as many sockets as there may be connections, each with a head and one byte."""
    with ExitStack() as stack:
        count = 2 * CONNECTIONS * workers
        stalled = [stack.enter_context(connect(server, STALLED)) for _ in range(count)]
        for _ in range(3 * workers):  # whichever worker takes it
            assert health(server) == 200
        # Those that waited longest were told so, and their connections are closed.
        ended = stalled[: count - CONNECTIONS * workers]
        statuses = [received(connection)[:12] for connection in ended[: CONNECTIONS // 2]]
        assert set(statuses) == {b"HTTP/1.1 408"}
        # A body that comes is taken.
        users = f"{server.url}/api/v1/users/"
        answer = httpx2.post(users, json={}, timeout=PATIENCE_SECONDS, verify=False)
        assert answer.status_code == 422


def test_slow_bodies_and_long_heads_are_refused(impatient: ServerProcess) -> None:
    with connect(impatient, STALLED) as stalled:
        head, _, body = received(stalled).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 408 ")
        assert b"connection: close" in head.lower()
        assert b'"code":"request_timeout"' in body

    with connect(impatient, STALLED) as trickling:
        is_open = True
        while is_open:  # or the byte after the hundredth would end the body
            time.sleep(0.5)
            try:
                trickling.sendall(b" ")
            except OSError:
                is_open = False
    assert impatient.log.read_text().count("status=408") == 2

    for size, status in ((60_000, b"200"), (66_000, b"431"), (100_000, b"431")):
        with connect(impatient, b"GET /health HTTP/1.1\r\nHost: a\r\n") as connection:
            connection.sendall(b"X-Long: " + b"a" * size + b"\r\nConnection: close\r\n\r\n")
            assert received(connection).split()[1] == status, size


def test_idle_connections_beyond_the_open_files_cost_nothing(database_url: str) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(serving(before=WITH_FEW_FILES, DATABASE_URL=database_url))
        for _ in range(200):
            stack.enter_context(connect(server))
            stack.enter_context(connect(server, b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"))
        before = sum(sum(process.cpu_times()[:2]) for process in processes(server))
        time.sleep(1)
        after = sum(sum(process.cpu_times()[:2]) for process in processes(server))
        assert after - before < 0.2  # a loop that finds no file takes all of the time
        assert len(processes(server)) == 2


def test_too_few_open_files_are_told_at_the_start(database_url: str) -> None:
    settings = {"DATABASE_URL": database_url, "MAX_CONNECTIONS": "1000", "SECRET_KEY": "x" * 32}
    command = "serve", "--port", str(free_port())
    ended = run_command(*command, before=WITH_FEW_FILES, **settings)
    assert ended.returncode == 1
    [line] = ended.stderr.splitlines()
    assert line.startswith("specimen: MAX_CONNECTIONS: 1000 connections need ")
    assert "`ulimit -n` allows 256: enough for " in line


MOMENTS = (0, 0.05, 0.3)


def test_signal_is_heard_at_any_moment(database_url: str, tmp_path: Path) -> None:
    """While workers are forked, start and begin to serve: so long after "serving" is logged."""
    settings = environment(DATABASE_URL=database_url, GRACEFUL_TIMEOUT_SECONDS="60")
    for after in MOMENTS:
        log = tmp_path / f"{after}.log"
        log.touch()
        command = "serve", "--port", str(free_port()), "--workers", "2"
        server = fork_command(*command, environment=settings, files=(os.devnull, log, log))
        try:
            wait_until(partial(has_begun, log))
            time.sleep(after)
        finally:
            server.terminate()
        assert exit_code(server, within=STOP_SECONDS) == 0
        assert "worker" not in log.read_text()


def has_begun(log: Path) -> bool:
    return "serving" in log.read_text()


def wait_until(is_true: Callable[[], bool], *, pause: float = 0.005) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(pause)


def test_two_workers_are_replaced_when_they_are_killed(database_url: str) -> None:
    """Before that, both of them answer probes however many bodies stall."""
    with serving("--workers", "2", DATABASE_URL=database_url, **PATIENT) as server:
        stall(server, workers=2)
        parent = psutil.Process(server.process.pid)
        workers = parent.children()
        for index in (-1, -1, 0):  # the newest, its replacement, and the other
            children = parent.children()
            children[index].kill()
            wait_until(
                partial(one_is_new, parent, {*children}),
                pause=0.05,  # it looks at all processes of the machine
            )
            assert len(parent.children()) == 2
            assert health(server) == 200
        assert not {*workers} & {*parent.children()}
        server.process.terminate()
        assert exit_code(server.process, within=STOP_SECONDS) == 0
        told = [line for line in server.log.read_text().splitlines() if "worker" in line]
        assert len(told) == 2 * 3, told  # each that it ended, and that it was replaced


def test_application_that_cannot_be_loaded_is_told_in_one_line(
    database_url: str, tmp_path: Path
) -> None:
    (tmp_path / "fastapi.py").write_text("raise ImportError('broken on purpose')\n")
    path = f"{tmp_path}{os.pathsep}{settings.project.root}"
    settings_of_server = {"DATABASE_URL": database_url, "PYTHONPATH": path, "SECRET_KEY": "x" * 32}
    ended = subprocess.run(
        # Not forked from a process that has imported the other one.
        [sys.executable, "-c", MAIN, "serve", "--port", str(free_port())],
        env=environment(**settings_of_server),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stderr.splitlines() == [
        f"specimen: the application cannot be loaded: {tmp_path}/fastapi.py:1: ImportError:"
        " broken on purpose (more with LOG_LEVEL=debug)"
    ]


@pytest.mark.parametrize("level", ["info", "debug"])
def test_worker_that_cannot_start_ends_the_server(level: str, database_url: str) -> None:
    """It would never start: here because of what the client of Redis refuses."""
    settings = {
        "DATABASE_URL": database_url,
        "REDIS_URL": "redis://127.0.0.1/0?socket_timeout=never",
        "LOG_LEVEL": level,
    }
    workers = "2" if level == "info" else "1"
    ended = run_command("serve", "--workers", workers, "--port", str(free_port()), **settings)
    assert ended.returncode == 1
    assert ended.stderr.splitlines() == ["specimen: a worker could not start"]
    told = [line for line in ended.stdout.splitlines() if "error" in line]
    reason = "ValueError: Invalid value for 'socket_timeout' in connection URL."
    assert any("worker_not_started" in line and reason in line for line in told)
    if level == "info":
        assert (
            len(ended.stdout.splitlines()) <= 5
        )  # serving; why each worker ended, and that it did
    assert ("Traceback" in ended.stdout) == (level == "debug")


def test_port_that_is_taken_meanwhile_is_told() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(AppError, match=f"cannot listen on port {port}: Address already in use"):
            Server(
                "specimen.main:app", settings, host="127.0.0.1", port=port, workers=1
            )._init_shared_socket()
