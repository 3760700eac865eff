"""granian as this project runs it: no signal is lost, and a worker that dies is replaced."""

import asyncio
import math
import multiprocessing
import os
import signal
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib import import_module
from typing import Any

import structlog
from granian.constants import HTTPModes, Interfaces, Loops
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.mp import MPServer, WorkerProcess

from timberframe.errors import CommandError
from timberframe.open_files import max_connections
from timberframe.settings import Settings

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# Tells a worker to end its live streams: before it stops, it waits for all requests to end.
END_STREAMS = signal.SIGUSR1
# A worker that exits by itself within this time cannot start, and neither could another.
START_SECONDS = 10
UNREAD_SECONDS = 30  # as long as an export may stall

log = structlog.get_logger()


class JobWorkerProcess:
    """The process that runs background jobs, forked like the server's workers.

    `died` is set when it ends. `exit_code` is None until then, and negative if a signal ended it.
    """

    exit_code: int | None = None

    def __init__(self, work: Callable[[], None], died: threading.Event) -> None:
        self._work = work
        self._died = died
        self._started = -math.inf

    def start(self) -> None:
        time.sleep(max(0, 1 - (time.monotonic() - self._started)))  # at most one a second
        self._started = time.monotonic()
        self.exit_code = None
        self._process = multiprocessing.get_context("fork").Process(target=self._work)
        self._process.start()
        # Only this thread waits for the process: two that do may both be told that it lives.
        self._waiting = threading.Thread(target=self._wait, daemon=True)
        self._waiting.start()

    def _wait(self) -> None:
        self._process.join()
        self.exit_code = self._process.exitcode  # before anybody looks
        self._died.set()

    def stop(self, seconds: float) -> None:
        """Wait for it after `terminate`, and kill it after `seconds`."""
        self._waiting.join(seconds)
        self._process.kill()

    def terminate(self) -> None:
        self._process.terminate()


class Server(MPServer):
    """Worker processes that share a port; `failed` once one of them could not start."""

    failed = False

    def __init__(
        self,
        target: str,
        settings: Settings,
        *,
        host: str,
        port: int,
        workers: int,
        job_worker: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(
            target,
            address=host,
            port=port,
            workers=workers,
            interface=Interfaces.ASGI,
            loop=Loops.uvloop,
            # HTTP/2 and TLS belong to the proxy in front.
            http=HTTPModes.http1,
            http1_settings=HTTP1Settings(header_read_timeout=10_000, max_buffer_size=64 * 1024),
            websockets=settings.WEBSOCKETS,
            backpressure=max_connections(settings),
            workers_kill_timeout=settings.GRACEFUL_TIMEOUT_SECONDS,
            log_level=LogLevels.warning,
            log_dictconfig={"loggers": {"_granian": {"propagate": True}}},
        )
        self._job_worker = (
            JobWorkerProcess(job_worker, self.main_loop_interrupt) if job_worker else None
        )

    def run(self) -> None:
        """Serve until stopped, or until a worker cannot start."""
        os.register_at_fork(before=_hold_signals, after_in_parent=release_signals)
        self.serve(target_loader=load_app)

    def _init_shared_socket(self) -> None:
        try:
            super()._init_shared_socket()  # type: ignore[no-untyped-call]  # granian's
        except RuntimeError as refused:  # another process took the port first
            [reason, *_] = str(refused).splitlines()
            raise CommandError(f"cannot listen on port {self.bind_port}: {reason}") from None

    def _serve_loop(self, spawn_target: Any, target_loader: Any) -> None:
        """Replace whatever dies. granian gives up when a worker dies twice in a few seconds."""
        if self._job_worker:
            self._job_worker.start()
        while not (self.interrupt_signal or self.failed):
            self.main_loop_interrupt.wait()
            self.main_loop_interrupt.clear()
            if self.reload_signal:
                self._reload(spawn_target, target_loader)  # type: ignore[no-untyped-call]  # granian's
            while self.interrupt_children and not self.interrupt_signal:
                index = self.interrupt_children.pop()
                if not _could_start(self.wrks[index]):
                    self.failed = True
                    break
                log.error("worker_replaced", worker=index + 1)
                self._respawn_workers([index], spawn_target, target_loader)
            if self._job_worker and not self.interrupt_signal:
                self._replace_job_worker(self._job_worker)

    def _replace_job_worker(self, process: JobWorkerProcess) -> None:
        if (exit_code := process.exit_code) is not None:
            log.error("job_worker_replaced", exit_code=exit_code)
            process.start()

    def _stop_workers(self) -> None:
        """Wait for the workers, then let granian collect them.

        granian asks once whether a worker is alive. While another thread reaps it, the answer is
        yes, and a worker that has stopped as asked would be reported as killed.
        """
        if self._job_worker:
            self._job_worker.terminate()
        for worker in self.wrks:
            with suppress(ProcessLookupError):
                os.kill(worker.inner.pid, END_STREAMS)
            worker.terminate()  # type: ignore[no-untyped-call]  # granian's
        deadline = time.monotonic() + (self.workers_kill_timeout or 0)
        while any(worker.inner.is_alive() for worker in self.wrks) and time.monotonic() < deadline:
            time.sleep(0.01)
        self.workers_kill_timeout = 1  # those that are left have had their time
        super()._stop_workers()  # type: ignore[no-untyped-call]  # granian's
        if self._job_worker:
            # Some longer than its jobs have: then it gives them back.
            self._job_worker.stop(max(0, deadline - time.monotonic()) + 1)

    def shutdown(self, exit_code: int = 0) -> None:
        self.interrupt_children.clear()  # a worker that dies during shutdown has not failed
        super().shutdown(exit_code)  # type: ignore[no-untyped-call]  # granian's


def load_app(target: str) -> Callable[..., Any]:
    """What granian's workers serve: they are forked from the process that imported it."""
    module, _, name = target.partition(":")
    return _starting(getattr(import_module(module), name))


def _could_start(worker: WorkerProcess) -> bool:
    """Whether it had started or was killed from outside; waits, to start at most one a second."""
    lived_seconds = time.monotonic() - worker.birth
    ended_by_itself = worker.inner.exitcode > 0
    if ended_by_itself and lived_seconds < START_SECONDS:
        return False
    time.sleep(max(0, 1 - lived_seconds))
    return True


def _hold_signals() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)


def _start_serving(app: Any) -> None:
    asyncio.get_running_loop().add_signal_handler(END_STREAMS, _end_streams, app)
    release_signals()
    _drop_clients_that_do_not_read()


def _end_streams(app: Any) -> None:
    # Another ASGI application may be around that of `create_app`, or be served instead of it.
    if streams := getattr(getattr(app, "state", None), "event_streams", None):
        streams.close()


def _drop_clients_that_do_not_read() -> None:
    """Have Linux drop a connection whose client reads none of an answer for `UNREAD_SECONDS`.

    Accepted sockets inherit the option. granian creates the listening socket itself, so it is
    looked up among the open files of this process.
    """
    if not sys.platform.startswith("linux"):
        return
    for file in map(int, os.listdir("/proc/self/fd")):
        with suppress(OSError):  # `listdir`'s own file is closed by now
            if not stat.S_ISSOCK(os.fstat(file).st_mode):
                continue
            with socket.socket(fileno=os.dup(file)) as each:
                if each.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    each.setsockopt(
                        socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_SECONDS * 1000
                    )


def release_signals() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


def _starting(app: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap `app`: unblock signals once a worker can act on them, end with one line on failure.

    Until then signals are blocked: the handlers that a worker inherits from its parent would
    swallow them, and so would those of uvloop between the two runs of its loop, for the start and
    for requests.
    """

    def started(scope: Any, receive: Any, send: Any) -> Any:
        if scope["type"] == "lifespan":
            return _start(app, scope, receive, send)
        return app(scope, receive, send)

    return started


async def _start(app: Callable[..., Any], scope: Any, receive: Any, send: Any) -> None:
    has_failed = False

    async def send_then_act(message: Any) -> None:
        nonlocal has_failed
        if message["type"] == "lifespan.startup.failed":
            has_failed = True  # the cause is raised next
            return
        await send(message)
        if message["type"] == "lifespan.startup.complete":
            # The first run of the loop ends three iterations after this message.
            _after_iterations(10, partial(_start_serving, app))

    try:
        await app(scope, receive, send_then_act)
    except Exception as broken:
        if not has_failed:
            raise
        log.debug("worker_not_started", exc_info=True)
        reason = f"{type(broken).__name__}: {broken}"
        log.error("worker_not_started", reason=reason, more="with LOG_LEVEL=debug")
        os._exit(1)  # granian, or the loop after a SystemExit, would log a traceback as well


def _after_iterations(iterations: int, act: Callable[[], None]) -> None:
    if iterations:
        asyncio.get_running_loop().call_soon(_after_iterations, iterations - 1, act)
    else:
        act()
