"""The load: keep-alive connections over raw HTTP/1.1, run in a process of its own."""

import asyncio
import multiprocessing
import signal
import statistics
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import cast

import uvloop

from benchmarks.machine import cpu_seconds, cpu_seconds_since, memory_bytes, process_tree
from benchmarks.work import Work

CONNECTIONS = 16
WARM_UP_SECONDS = 0.3
PATIENCE_SECONDS = 60


@dataclass(frozen=True)
class Target:
    """Which requests go where, and which processes answer them."""

    work: Work
    path: str
    products: int
    token: str
    port: int
    server_pid: int
    database_pid: int | None

    def requests(self) -> Iterator[bytes]:
        return self.work.requests(self.path, self.products, self.token)


@dataclass(frozen=True)
class Measured:
    """What one server did with one piece of work; CPU time is per request."""

    requests: int
    cpu_us: float
    database_us: float | None
    per_second: float
    p50_ms: float
    p99_ms: float
    memory_mb: float


@contextmanager
def open_loader() -> Iterator[Executor]:
    """The one process in which `measure` is to run; it starts with the first job."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=_ignore_interrupt) as loader:
        yield loader


def _ignore_interrupt() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def measure(
    target: Target,
    seconds: float,
    warm_up: float = WARM_UP_SECONDS,
    connections: int = CONNECTIONS,
) -> Measured:
    return uvloop.run(_measure(target, seconds, warm_up, connections))


async def _measure(target: Target, seconds: float, warm_up: float, count: int) -> Measured:
    requests = target.requests()
    async with _connected(target.port, requests, count) as connections:
        await _run(connections, warm_up)

    server, database = target.server_pid, target.database_pid
    server_before = cpu_seconds(server)
    database_before = cpu_seconds(database) if database else {}
    started = time.perf_counter()
    # New ones: where an answer takes seconds, a server closes those that wait for the slowest.
    async with _connected(target.port, requests, count) as connections:
        latencies = await _run(connections, seconds)
        elapsed = time.perf_counter() - started
        # What a server still does after its last answer belongs to that answer.
        await asyncio.sleep(0.05)
        server_used = cpu_seconds_since(server_before, server)
        database_used = cpu_seconds_since(database_before, database) if database else None

    percentiles = statistics.quantiles(latencies, n=100, method="inclusive")
    return Measured(
        requests=len(latencies),
        cpu_us=server_used / len(latencies) * 1e6,
        database_us=None if database_used is None else database_used / len(latencies) * 1e6,
        per_second=len(latencies) / elapsed,
        p50_ms=percentiles[49] * 1e3,
        p99_ms=percentiles[98] * 1e3,
        memory_mb=memory_bytes(process_tree(server)) / 1e6,
    )


@asynccontextmanager
async def _connected(
    port: int, requests: Iterator[bytes], count: int
) -> AsyncIterator[list["Connection"]]:
    connections = [await _connect(port, requests) for _ in range(count)]
    try:
        yield connections
    finally:
        for connection in connections:
            connection.close()


async def _connect(port: int, requests: Iterator[bytes]) -> "Connection":
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(
        lambda: Connection(requests), host="127.0.0.1", port=port
    )
    return connection


async def _run(connections: list["Connection"], seconds: float) -> list[float]:
    """Send for that long and wait for the last answers; the latencies of all, in seconds."""
    deadline = time.perf_counter() + seconds
    async with asyncio.timeout(seconds + PATIENCE_SECONDS):
        latencies = await asyncio.gather(*(each.send_until(deadline) for each in connections))
    return [latency for some in latencies for latency in some]


class Connection(asyncio.Protocol):
    """Sends a request, and the next one when that has been answered."""

    def __init__(self, requests: Iterator[bytes]) -> None:
        self._requests = requests
        self._received = bytearray()
        self._expected_bytes = 0
        self._next_chunk = 0

    def send_until(self, deadline: float) -> asyncio.Future[list[float]]:
        self._deadline = deadline
        self._latencies: list[float] = []
        self._finished: asyncio.Future[list[float]] = asyncio.get_running_loop().create_future()
        self._send()
        return self._finished

    def close(self) -> None:
        self._transport.close()

    def _send(self) -> None:
        self._sent_at = time.perf_counter()
        self._transport.write(next(self._requests))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        try:
            is_answered = self._is_answered()
        except ValueError as wrong:
            self._fail(wrong)
            return
        if is_answered:
            self._note_answer()

    def _is_answered(self) -> bool:
        if not self._expected_bytes and not self._next_chunk:
            head_end = self._received.find(b"\r\n\r\n")
            if head_end < 0:
                return False
            length = content_length(bytes(self._received[:head_end]))
            if length is None:
                self._next_chunk = head_end + 4
            else:
                self._expected_bytes = head_end + 4 + length
        if self._expected_bytes:
            return len(self._received) >= self._expected_bytes
        return self._has_last_chunk()

    def _has_last_chunk(self) -> bool:
        while True:
            size_end = self._received.find(b"\r\n", self._next_chunk)
            if size_end < 0:
                return False
            size = int(self._received[self._next_chunk : size_end], 16)
            chunk_end = size_end + 2 + size + 2
            if len(self._received) < chunk_end:
                return False
            if not size:
                return True
            self._next_chunk = chunk_end

    def _note_answer(self) -> None:
        now = time.perf_counter()
        self._latencies.append(now - self._sent_at)
        self._received.clear()
        self._expected_bytes = self._next_chunk = 0
        if now < self._deadline:
            self._send()
        else:
            self._finished.set_result(self._latencies)

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(ConnectionError("the server closed a connection"))

    def _fail(self, error: Exception) -> None:
        if not self._finished.done():
            self._finished.set_exception(error)


def content_length(head: bytes) -> int | None:
    """Of the answer with this head; None if it comes in chunks."""
    head = head.lower()
    if head[9:10] != b"2":
        raise ValueError(f"not a 2xx answer: {head[:500]!r}")
    _, found, length = head.partition(b"\r\ncontent-length:")
    if found:
        return int(length.partition(b"\r\n")[0])
    if b"\r\ntransfer-encoding: chunked" in head:
        return None
    raise ValueError(f"an answer without a length: {head!r}")
