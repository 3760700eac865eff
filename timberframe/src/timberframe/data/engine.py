"""Create the engine of each database, with bounded waits."""

import asyncio
import errno
import os
import sqlite3
import time
from contextlib import closing, suppress
from functools import partial
from typing import Any, Self
from urllib.parse import urlencode

import aiosqlite
import structlog
from pydantic_core import to_json
from sqlalchemy import Dialect, event
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.exc import DisconnectionError, MissingGreenlet
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.util.concurrency import await_only, in_greenlet

from timberframe.data.failures import message_of, translate
from timberframe.data.long_reads import ReadLimit
from timberframe.data.options import DatabaseOptions
from timberframe.errors import Unavailable

log = structlog.get_logger()

_MAX_WAL_SECONDS = 5
_INTERRUPT_AGAIN_SECONDS = 0.01


def create_engine(options: DatabaseOptions, *, is_read_only: bool = False) -> AsyncEngine:
    """An engine with bounded waits; it connects when it is first used.

    `is_read_only` makes all its connections read-only, which only SQLite supports.
    """
    named = make_url(options.url)
    is_sqlite = named.get_backend_name() == "sqlite"
    arguments = _sqlite_arguments(options)
    if not is_sqlite:
        arguments = _postgresql_arguments(named, options)
        named = named.set(query={})
    engine = create_async_engine(
        named,
        # Parameters hold passwords and addresses: never in an exception's text.
        hide_parameters=True,
        # As Pydantic would write it, because the stored text is sent to clients unchanged.
        json_serializer=lambda value: to_json(value).decode(),
        connect_args=arguments,
        pool_size=options.pool_size,
        max_overflow=0,
        pool_timeout=options.pool_timeout,
        # On SQLite a rollback is a hop to its thread, even for nothing: see _end_transaction.
        pool_reset_on_return=None if is_sqlite else "rollback",
    )
    event.listen(
        engine.sync_engine, "do_connect", partial(_connect, make_url(options.url), is_read_only)
    )
    event.listen(engine.sync_engine, "handle_error", translate)
    event.listen(engine.sync_engine, "before_cursor_execute", _note_statement)
    if is_sqlite:
        event.listen(engine.sync_engine, "begin", _begin)
        event.listen(engine.sync_engine, "reset", _end_transaction)
    else:
        event.listen(engine.sync_engine, "checkout", _drop_if_closed)
    return engine


def _sqlite_arguments(options: DatabaseOptions) -> dict[str, Any]:
    # Without this, sqlite3 begins transactions itself, and only at the first write: what was read
    # before it could be outdated by then, and updates would be lost.
    return {
        "isolation_level": None,
        "timeout": options.lock_timeout,
        "async_creator_fn": SqliteConnection.to,
    }


def _postgresql_arguments(url: URL, options: DatabaseOptions) -> dict[str, Any]:
    # asyncpg reads libpq's parameters, such as sslmode, from a URL alone.
    parameters = {"dsn": f"postgresql:///?{urlencode(url.query, doseq=True)}"} if url.query else {}
    return {
        **parameters,
        "timeout": options.pool_timeout,
        # The server's timeout comes first; this one is for a server that no longer answers.
        "command_timeout": options.statement_timeout + 5,
        "server_settings": {
            "application_name": options.project.name,
            "statement_timeout": _milliseconds(options.statement_timeout),
            "lock_timeout": _milliseconds(options.lock_timeout),
            "idle_in_transaction_session_timeout": _milliseconds(2 * options.statement_timeout),
            "jit": "off",  # compiling costs more than a short query saves
        },
    }


def _note_statement(connection: Connection, *execution: object) -> None:
    limit: ReadLimit | None = connection.get_execution_options().get("read_limit")
    if limit:
        limit.next_statement()


class SqliteConnection(aiosqlite.Connection):
    """A connection that may be stopped while it is being closed, and interrupted at any moment.

    aiosqlite 0.22 would wait forever for a thread that has ended if it is stopped while it is being
    closed, and so would a process that stops, or whoever else waits for all tasks. SQLAlchemy does
    that when a request is cancelled while its connection is closed.
    """

    _stopped: asyncio.Future[Any] | None = None
    _interrupted: asyncio.Future[None] | None = None

    @classmethod
    def to(cls, database: str, **arguments: Any) -> Self:
        connection = cls(lambda: sqlite3.connect(database, **arguments), iter_chunk_size=64)
        connection._thread.daemon = True  # as SQLAlchemy does with connections that it creates
        return connection

    def stop(self) -> asyncio.Future[Any] | None:
        if self._stopped is None:
            self._stopped = super().stop()
        return self._stopped

    async def interrupt(self) -> None:
        """End the statement under way, and wait for its end.

        It ends even if whoever waits is cancelled once more.
        """
        # Kept, since the event loop has no strong reference to a task.
        self._interrupted = asyncio.ensure_future(self._interrupt_until_it_ends())
        await asyncio.shield(self._interrupted)

    async def _interrupt_until_it_ends(self) -> None:
        """SQLite forgets an interrupt that comes before the thread has begun the statement."""
        # The thread comes to this when the statement has ended.
        nothing = self._execute(lambda: None)  # type: ignore[no-untyped-call]  # aiosqlite's
        ended = asyncio.ensure_future(nothing)
        while not ended.done():
            with suppress(sqlite3.ProgrammingError):  # closed, once whoever waited was cancelled
                self._conn.interrupt()
            await asyncio.wait([ended], timeout=_INTERRUPT_AGAIN_SECONDS)


def _milliseconds(seconds: float) -> str:
    return str(int(seconds * 1000))


def _connect(
    url: URL,
    is_read_only: bool,
    dialect: Dialect,
    entry: ConnectionPoolEntry,
    args: Any,
    kwargs: Any,
) -> Any:
    if not in_greenlet():
        raise MissingGreenlet  # Driver._connect retries in one
    is_sqlite = dialect.name == "sqlite"
    try:
        if is_sqlite and not kwargs.get("uri"):
            _create_private(*args)
        connection = dialect.connect(*args, **kwargs)
        if is_sqlite:
            _set_pragmas(connection, is_read_only=is_read_only)
    except Exception as failed:
        raise _unreachable(url, failed) from failed
    return connection


def _create_private(file: str) -> None:
    """Create a missing file that only its owner can read; SQLite gives -wal and -shm its mode.

    An existing file keeps its mode. It is not even opened, since closing it would drop the locks
    that SQLite holds on it in this process. Raise OSError if it cannot be created: SQLite has one
    message for everything that it cannot open.
    """
    if os.path.isdir(file):
        raise IsADirectoryError(errno.EISDIR, file)
    with suppress(FileExistsError):
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def _unreachable(url: URL, failed: Exception) -> Unavailable:
    if url.get_backend_name() == "sqlite":
        target = f"open the database {url.database}"
    else:
        # Not the URL itself, which contains the password.
        hosts = url.normalized_query.get("host") or (url.host or "the default host",)
        port = f":{url.port}" if url.port else ""
        target = f"connect to the database {url.database} at {','.join(hosts)}{port}"
    reason = f"cannot {target}: {message_of(failed)}"
    log.warning("database_unreachable", error=type(failed).__name__, reason=reason)
    return Unavailable("The database", reason=reason)


def _set_pragmas(connection: Any, *, is_read_only: bool) -> None:
    try:
        with closing(connection.cursor()) as cursor:
            _use_wal(cursor)
            # In WAL mode, NORMAL may lose committed transactions in a power failure.
            cursor.execute("PRAGMA synchronous = FULL")
            cursor.execute("PRAGMA foreign_keys = ON")
            if is_read_only:
                cursor.execute("PRAGMA query_only = ON")
    except BaseException:
        connection.close()
        raise


def _use_wal(cursor: Any) -> None:
    """Use a write-ahead log, which a new file does not have yet.

    While another process sees to that, SQLite refuses at once, however long it may wait for locks.
    """
    deadline = time.monotonic() + _MAX_WAL_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as busy:
            if busy.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            await_only(asyncio.sleep(0.01))
        else:
            return


def _begin(connection: Connection) -> None:
    # A transaction that reads first and writes later would otherwise fail or lose an update.
    if begin := connection.get_execution_options().get("begin", "BEGIN IMMEDIATE"):
        connection.exec_driver_sql(begin)


def _end_transaction(connection: Any, entry: ConnectionPoolEntry, state: Any) -> None:
    if entry.driver_connection and entry.driver_connection.in_transaction:
        connection.rollback()


def _drop_if_closed(connection: Any, entry: ConnectionPoolEntry, proxy: Any) -> None:
    # A closed socket shows that the server is gone, without the round trip of a ping.
    if entry.driver_connection is None or entry.driver_connection.is_closed():
        raise DisconnectionError
