"""SQLite's short reads: run where they are asked, since another thread costs more than they do."""

import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

# Of SQLite's virtual machine: ten times a page of 100 with its total, some milliseconds.
MAX_STEPS = 150_000
_COUNTED_STEPS = 10_000


class ShortReads:
    """A connection of the event loop's own, which holds it up for no longer than `MAX_STEPS` take.

    It waits for no lock: a reader never does in WAL, but for the moments in which a file that was
    not closed is mended.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        (self._file,), options = engine.dialect.create_connect_args(engine.url)
        self._options: dict[str, Any] = {**options, "isolation_level": None, "timeout": 0}
        self._connection: sqlite3.Connection | None = None
        self._steps = 0

    def fetch(self, sql: str, arguments: Sequence[Any]) -> Sequence[Sequence[Any]] | None:
        """The rows, or None if it is long, or cannot be done here for whatever reason."""
        try:
            if self._connection is None:
                self._connection = self._connect()
            self._steps = 0
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
        connection: sqlite3.Connection = sqlite3.connect(self._file, **self._options)
        connection.execute("PRAGMA query_only = ON")
        connection.set_progress_handler(self._is_long, _COUNTED_STEPS)
        return connection

    def _is_long(self) -> bool:
        """Asked every so many steps; true interrupts the statement."""
        self._steps += _COUNTED_STEPS
        return self._steps > MAX_STEPS
