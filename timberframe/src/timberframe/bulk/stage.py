"""Staging between file and database: valid rows wait on disk, so that memory is bounded."""

import sqlite3
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from timberframe.bulk.upsert import Batch
from timberframe.errors import Unavailable

_CACHE_KIB = 16 * 1024


class Stage:
    """A temporary SQLite database without a name, which is deleted when it is closed."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        for statement in (
            f"PRAGMA cache_size = -{_CACHE_KIB}",
            "PRAGMA journal_mode = OFF",
            "PRAGMA synchronous = OFF",
            "CREATE TABLE keys (key TEXT PRIMARY KEY, line INTEGER) WITHOUT ROWID",
            "CREATE TABLE batches (rows TEXT, count INTEGER, sent TEXT)",
            "BEGIN",
        ):
            self._database.execute(statement)
        self.rows = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._database.close()
        if isinstance(error, sqlite3.OperationalError):
            raise Unavailable("Room for files on disk") from error

    def add_key(self, key: str, line: int) -> bool:
        """Store the key and its line; return False if the key is already there."""
        sql = "INSERT INTO keys VALUES (?, ?) ON CONFLICT DO NOTHING"
        return self._database.execute(sql, (key, line)).rowcount == 1

    def line_of(self, key: str) -> int:
        found = self._database.execute("SELECT line FROM keys WHERE key = ?", (key,))
        line: int = found.fetchone()[0]
        return line

    def add(self, batch: Batch) -> None:
        self.rows += batch.count
        values = (batch.rows, batch.count, " ".join(batch.sent))
        self._database.execute("INSERT INTO batches VALUES (?, ?, ?)", values)

    def batches(self) -> Iterator[Batch]:
        """In the order in which they were added."""
        for rows, count, sent in self._database.execute("SELECT * FROM batches ORDER BY rowid"):
            yield Batch(rows, count, frozenset(sent.split()))
