"""Wakes a worker when there may be new jobs: by NOTIFY on PostgreSQL, by the file on SQLite."""

import asyncio
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from typing import Any

from timberframe.data.session import Database
from timberframe.jobs.queue import CHANNEL

WATCH_SECONDS = 0.05


class Wake(ABC):
    @abstractmethod
    async def wait(self, seconds: float) -> None:
        """Return when somebody may have enqueued a job, or after `seconds`."""


@asynccontextmanager
async def open_wake(database: Database) -> AsyncIterator[Wake]:
    if database.engine.dialect.name == "sqlite":
        file = database.engine.url.database
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
            yield FileWake(connection)
        return
    async with database.engine.connect() as connection:
        driver: Any = (await connection.get_raw_connection()).driver_connection
        wake = NotifiedWake()
        await driver.add_listener(CHANNEL, wake.notice)
        driver.add_termination_listener(wake.notice)
        try:
            yield wake
        finally:
            with suppress(Exception):  # the connection may be the reason for leaving
                await driver.remove_listener(CHANNEL, wake.notice)


class NotifiedWake(Wake):
    def __init__(self) -> None:
        self._noticed = asyncio.Event()

    def notice(self, *_: object) -> None:
        self._noticed.set()

    async def wait(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._noticed.wait()
        self._noticed.clear()


class FileWake(Wake):
    """`data_version` changes with each commit of another connection, and costs microseconds."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._version = self._read()

    async def wait(self, seconds: float) -> None:
        deadline = asyncio.get_running_loop().time() + seconds
        while (left := deadline - asyncio.get_running_loop().time()) > 0:
            if (version := self._read()) != self._version:
                self._version = version
                return
            await asyncio.sleep(min(left, WATCH_SECONDS))

    def _read(self) -> int:
        return int(self._connection.execute("PRAGMA data_version").fetchone()[0])
