"""Wakes whoever waits for new rows of a table: by NOTIFY on PostgreSQL, by the file on SQLite.

On PostgreSQL, whatever inserts such rows notifies a channel with the name of the table.
"""

import asyncio
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from typing import Any

from timberframe.data.session import Database

WATCH_SECONDS = 0.05
_LAST_ID = "SELECT seq FROM sqlite_sequence WHERE name = ?"  # ids are never reused


class Wake(ABC):
    @abstractmethod
    async def wait(self, seconds: float) -> None:
        """Return when there may be new rows, or after `seconds`."""


@asynccontextmanager
async def open_wake(database: Database, table: str) -> AsyncIterator[Wake]:
    if database.engine.dialect.name == "sqlite":
        file = database.engine.url.database
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
            yield FileWake(connection, table)
        return
    async with database.engine.connect() as connection:
        driver: Any = (await connection.get_raw_connection()).driver_connection
        wake = NotifiedWake()
        await driver.add_listener(table, wake.notice)
        driver.add_termination_listener(wake.notice)
        try:
            yield wake
        finally:
            with suppress(Exception):  # the connection may be the reason for leaving
                await driver.remove_listener(table, wake.notice)


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
    """Looks at the file: `data_version` changes with each commit of another connection.

    Then the last id that was given to a row is read. Both take microseconds, and need no thread.
    """

    def __init__(self, connection: sqlite3.Connection, table: str) -> None:
        self._connection = connection
        self._table = table
        self._version = self._read_version()
        self._last_id = self._read_last_id()

    async def wait(self, seconds: float) -> None:
        deadline = asyncio.get_running_loop().time() + seconds
        while (left := deadline - asyncio.get_running_loop().time()) > 0:
            if self._has_new():
                return
            await asyncio.sleep(min(left, WATCH_SECONDS))

    def _has_new(self) -> bool:
        if (version := self._read_version()) == self._version:
            return False
        self._version = version
        before, self._last_id = self._last_id, self._read_last_id()
        return self._last_id != before

    def _read_version(self) -> int:
        return int(self._connection.execute("PRAGMA data_version").fetchone()[0])

    def _read_last_id(self) -> int:
        row = self._connection.execute(_LAST_ID, (self._table,)).fetchone()
        return int(row[0]) if row else 0
