"""The database: its engine, and how a unit of work begins and ends."""

import asyncio
from collections.abc import AsyncIterator, Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, cast

import structlog
from pydantic_core import to_json
from sqlalchemy import Dialect, event, text
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.exc import DisconnectionError, MissingGreenlet
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session, SessionTransaction
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection, QueuePool
from sqlalchemy.util import greenlet_spawn
from sqlalchemy.util.concurrency import in_greenlet

from app.core.config import settings
from app.core.errors import Unavailable
from app.db.failures import meaning_of, translate
from app.db.query import AnySelect, Queries

log = structlog.get_logger()


class Database:
    """One pool of connections, and the ways to use it."""

    def __init__(self, url: str) -> None:
        self.engine = create_engine(url)
        is_sqlite = self.engine.dialect.name == "sqlite"
        # sqlite3 commits by itself unless told BEGIN; asyncpg must be told to.
        autocommit = {"begin": None} if is_sqlite else {"isolation_level": "AUTOCOMMIT"}
        repeatable = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        snapshot = {"begin": "BEGIN"} if is_sqlite else repeatable
        self._pool = cast(QueuePool, self.engine.sync_engine.pool)
        self._turns = asyncio.Semaphore(settings.DATABASE_POOL_SIZE)
        self._queries = Queries(self.engine.dialect)
        self._run = _run_on_sqlite if is_sqlite else _run_on_postgresql
        self._writing = async_sessionmaker(self.engine, expire_on_commit=False)
        self._reading = async_sessionmaker(
            self.engine.execution_options(**autocommit), expire_on_commit=False, autoflush=False
        )
        self._looking = async_sessionmaker(
            self.engine.execution_options(**snapshot), expire_on_commit=False, autoflush=False
        )

    @asynccontextmanager
    async def transaction(
        self, *, first: Callable[[Connection], None] | None = None
    ) -> AsyncIterator[AsyncSession]:
        """A unit of work: committed on return, rolled back on any exception.

        It begins with its first statement, and `first` runs before that one.
        """
        with _pool_is_bounded():
            async with self._writing() as db:
                if first:
                    _run_on_begin(db, first)
                yield db
                try:
                    await db.commit()
                except BaseException:
                    # SQLAlchemy takes the transaction for ended and would give the connection to
                    # the next request; on SQLite it may still be open, and hold the write lock.
                    await db.invalidate()
                    raise

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        """For reads alone: each statement by itself, without BEGIN and ROLLBACK round trips."""
        with _pool_is_bounded():
            async with self._reading() as db:
                yield db

    async def fetch(
        self, shape: Hashable, build: Callable[[], AnySelect], values: Mapping[str, Any]
    ) -> Sequence[Sequence[Any]]:
        """The rows of one query, as the driver gives them; it is built and compiled once a shape.

        For the reads that are asked for most: of a row by its key, SQLAlchemy's own execution costs
        four times what the query does.
        """
        query = self._queries.get(shape, build)
        arguments = query.arguments(values)
        await self._wait_for_turn()
        try:
            connection = await self._connect()
            try:
                rows = await self._run(connection.driver_connection, query.sql, arguments)
            except BaseException as failed:
                # Whatever it was, nobody else gets this connection.
                await greenlet_spawn(connection.invalidate, failed)
                if meaning := meaning_of(failed):
                    raise meaning from failed
                raise
            connection.close()  # awaits nothing, since no transaction was begun
        finally:
            self._turns.release()
        return rows

    async def _wait_for_turn(self) -> None:
        """As many as there are connections go on; the pool's own queue costs more than a query."""
        if not self._turns.locked():
            await self._turns.acquire()
            return
        try:
            async with asyncio.timeout(settings.DATABASE_POOL_TIMEOUT_SECONDS):
                await self._turns.acquire()
        except TimeoutError:
            raise Unavailable("The database") from None

    async def _connect(self) -> PoolProxiedConnection:
        pool = self._pool
        if pool.checkedin():
            # One that lies ready is taken without awaiting, for which no greenlet is needed.
            with suppress(MissingGreenlet):
                return pool.connect()
        with _pool_is_bounded():
            return await greenlet_spawn(pool.connect)

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[AsyncSession]:
        """For reads that are to see one state, however long they take and whatever is written."""
        with _pool_is_bounded():
            async with self._looking() as db:
                yield db

    async def check(self) -> None:
        """Raise `Unavailable` unless the database answers."""
        async with self.reading() as db:
            await db.execute(text("SELECT 1"))


@asynccontextmanager
async def open_database() -> AsyncIterator[Database]:
    """The database of the settings; its connections are closed at the end."""
    database = Database(settings.DATABASE_URL.get_secret_value())
    try:
        yield database
    finally:
        await database.engine.dispose()


def _run_on_begin(db: AsyncSession, first: Callable[[Connection], None]) -> None:
    def run(session: Session, transaction: SessionTransaction, connection: Connection) -> None:
        first(connection)

    # Once: a savepoint begins too.
    event.listen(db.sync_session, "after_begin", run, once=True)


@contextmanager
def _pool_is_bounded() -> Iterator[None]:
    try:
        yield
    except PoolTimeout:
        raise Unavailable("The database") from None


def create_engine(url: str, *, statement_timeout_seconds: float | None = None) -> AsyncEngine:
    """An engine of bounded waits, as the settings say; it connects when it is first needed."""
    is_sqlite = make_url(url).get_backend_name() == "sqlite"
    timeout = statement_timeout_seconds or settings.DATABASE_STATEMENT_TIMEOUT_SECONDS
    engine = create_async_engine(
        url,
        # Parameters hold passwords and addresses: never in an exception's text.
        hide_parameters=True,
        # As Pydantic writes it, since it is sent as it is stored.
        json_serializer=lambda value: to_json(value).decode(),
        connect_args=_sqlite_arguments() if is_sqlite else _postgresql_arguments(timeout),
        pool_size=settings.DATABASE_POOL_SIZE,
        max_overflow=0,
        pool_timeout=settings.DATABASE_POOL_TIMEOUT_SECONDS,
        # SQLite's would go to its thread and back for nothing: see _end_transaction.
        pool_reset_on_return=None if is_sqlite else "rollback",
    )
    event.listen(engine.sync_engine, "do_connect", _connect)
    event.listen(engine.sync_engine, "handle_error", translate)
    if is_sqlite:
        event.listen(engine.sync_engine, "connect", _set_pragmas)
        event.listen(engine.sync_engine, "begin", _begin)
        event.listen(engine.sync_engine, "reset", _end_transaction)
    else:
        event.listen(engine.sync_engine, "checkout", _drop_if_closed)
    return engine


def _sqlite_arguments() -> dict[str, Any]:
    # Without this, sqlite3 begins transactions by itself, and too late: reads before the first
    # write would see an older state, and updates would be lost.
    return {"isolation_level": None, "timeout": settings.DATABASE_LOCK_TIMEOUT_SECONDS}


def _postgresql_arguments(statement_timeout: float) -> dict[str, Any]:
    return {
        "timeout": settings.DATABASE_POOL_TIMEOUT_SECONDS,
        # The server's timeout comes first; this one is for a server that no longer answers.
        "command_timeout": statement_timeout + 5,
        "server_settings": {
            "application_name": "myapi",
            "statement_timeout": _milliseconds(statement_timeout),
            "lock_timeout": _milliseconds(settings.DATABASE_LOCK_TIMEOUT_SECONDS),
            "idle_in_transaction_session_timeout": _milliseconds(2 * statement_timeout),
            "jit": "off",  # compiling costs more than a short query saves
        },
    }


def _milliseconds(seconds: float) -> str:
    return str(int(seconds * 1000))


def _connect(dialect: Dialect, entry: ConnectionPoolEntry, args: Any, kwargs: Any) -> Any:
    if not in_greenlet():
        raise MissingGreenlet  # Database._connect begins again in one
    try:
        return dialect.connect(*args, **kwargs)
    except Exception as failed:
        log.warning("database_unreachable", error=type(failed).__name__)
        raise Unavailable("The database") from failed


async def _run_on_postgresql(
    connection: Any, sql: str, arguments: Sequence[Any]
) -> Sequence[Sequence[Any]]:
    rows: Sequence[Sequence[Any]] = await connection.fetch(sql, *arguments)
    return rows


async def _run_on_sqlite(
    connection: Any, sql: str, arguments: Sequence[Any]
) -> Sequence[Sequence[Any]]:
    rows: Sequence[Sequence[Any]] = await connection.execute_fetchall(sql, arguments)
    return rows


def _set_pragmas(connection: Any, entry: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    # In WAL, NORMAL may lose committed transactions when the power fails.
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin(connection: Connection) -> None:
    # A transaction that reads first and writes later would otherwise fail or lose an update.
    if begin := connection.get_execution_options().get("begin", "BEGIN IMMEDIATE"):
        connection.exec_driver_sql(begin)


def _end_transaction(connection: Any, entry: ConnectionPoolEntry, state: Any) -> None:
    if entry.driver_connection and entry.driver_connection.in_transaction:
        connection.rollback()


def _drop_if_closed(connection: Any, entry: ConnectionPoolEntry, proxy: Any) -> None:
    # The socket knows that the server has gone: no ping, so no extra round trip.
    if entry.driver_connection.is_closed():  # type: ignore[union-attr]
        raise DisconnectionError
