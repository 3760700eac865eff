"""Short reads on SQLite run on the event loop: a hop to another thread would cost more."""

import os
import sqlite3
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

MAX_SECONDS = 0.005  # of CPU time: ten times a page of 100 with its total
_STEPS = 1_000  # instructions of SQLite's VM between two checks of the clock


class ShortReads:
    """A connection used on the event loop itself, which it blocks for little over `MAX_SECONDS`.

    It never waits for a lock. In WAL mode readers need not, except while a file that was not closed
    properly is recovered.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        (self._file,), options = engine.dialect.create_connect_args(engine.url)
        self._options: dict[str, Any] = {**options, "isolation_level": None, "timeout": 0}
        self._connection: sqlite3.Connection | None = None
        self._end = 0.0

    def fetch(self, sql: str, arguments: Sequence[Any]) -> Sequence[Sequence[Any]] | None:
        """The rows, or None if the query takes too long or fails here for any other reason."""
        try:
            if self._connection is None:
                self._connection = self._connect()
            self._end = time.thread_time() + MAX_SECONDS
            return self._connection.execute(sql, arguments).fetchall()
        except sqlite3.Error as failed:
            if getattr(failed, "sqlite_errorcode", None) != sqlite3.SQLITE_INTERRUPT:
                self.close()
            return None

    def close(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def _connect(self) -> sqlite3.Connection:
        if not (self._options.get("uri") or os.path.exists(self._file)):
            raise sqlite3.OperationalError  # the engine creates the file, with the right mode
        connection: sqlite3.Connection = sqlite3.connect(self._file, **self._options)
        connection.execute("PRAGMA query_only = ON")
        # Whenever it returns true, the statement is interrupted.
        connection.set_progress_handler(lambda: time.thread_time() > self._end, _STEPS)
        return connection
