"""Run statements directly on the driver: executing through SQLAlchemy costs four times as much."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import (
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
    nullcontext,
    suppress,
)
from typing import Any, cast

import asyncpg
from sqlalchemy.exc import MissingGreenlet
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import PoolProxiedConnection, QueuePool
from sqlalchemy.util import greenlet_spawn

from timberframe.data.failures import ConstraintViolated, error_for
from timberframe.data.long_reads import LongReads, ReadLimit
from timberframe.data.options import DatabaseOptions
from timberframe.data.query import AnyStatement, Queries
from timberframe.data.short_reads import ShortReads
from timberframe.errors import Unavailable

# Long enough for a burst of short searches, short enough not to hold clients' connections.
SEARCH_WAIT_SECONDS = 1
_VIOLATIONS = (asyncpg.IntegrityConstraintViolationError, sqlite3.IntegrityError)


class Driver:
    """Runs each statement as its own transaction, on a connection from the engine's pool.

    A statement is built and compiled once per shape; rows are returned as the driver gives them. On
    SQLite, short reads have a connection of their own.
    """

    def __init__(self, engine: AsyncEngine, options: DatabaseOptions) -> None:
        self._options = options
        is_sqlite = engine.dialect.name == "sqlite"
        self._pool = cast(QueuePool, engine.sync_engine.pool)
        self._turns = asyncio.Semaphore(options.pool_size)
        # SQLite has one writer, and waiting for its lock means polling: queue here instead.
        self._write_turns = asyncio.Semaphore(1) if is_sqlite else None
        self._queries = Queries(engine.dialect)
        self._execute = _execute_on_sqlite if is_sqlite else _execute_on_postgresql
        self._short_reads = ShortReads(engine) if is_sqlite else None
        self._long_reads = LongReads(options)
        self._search_turns = asyncio.Semaphore(max(1, options.pool_size // 2))

    async def fetch(
        self, shape: Hashable, build: Callable[[], AnyStatement], values: Mapping[str, Any]
    ) -> Sequence[Sequence[Any]]:
        """The rows of a query; raise `ReadTooLong` if it takes too long."""
        query = self._queries.get(shape, build)
        arguments = query.arguments(values)
        if self._short_reads:
            rows = self._short_reads.fetch(query.sql, arguments)
            if rows is not None:
                return rows
        return await self._run(query.sql, arguments, self.limit())

    def limit(self, pool: QueuePool | None = None) -> ReadLimit:
        """A time limit for reads on a connection of `pool`, by default this driver's own."""
        return ReadLimit(self._long_reads, pool or self._pool)

    @asynccontextmanager
    async def search_turn(self) -> AsyncIterator[None]:
        """Wait for a search slot; raise `Unavailable` if none is free in `SEARCH_WAIT_SECONDS`.

        Take it before a connection. Searches read far more than lists do: they may use half of the
        connections at most, which leaves the other half to everything else.
        """
        await _wait_for_turn(self._search_turns, SEARCH_WAIT_SECONDS, "Search")
        try:
            yield
        finally:
            self._search_turns.release()

    async def write(
        self, shape: Hashable, build: Callable[[], AnyStatement], values: Mapping[str, Any]
    ) -> Sequence[Sequence[Any]]:
        """Run a statement that changes rows, and return its RETURNING rows.

        Raise `ConstraintViolated` if a constraint forbids it.
        """
        query = self._queries.get(shape, build)
        arguments = query.arguments(values)
        if self._write_turns is None:
            return await self._run(query.sql, arguments)
        await _wait_for_turn(self._write_turns, self._options.lock_timeout)
        try:
            return await self._run(query.sql, arguments)
        finally:
            self._write_turns.release()

    def close(self) -> None:
        if self._short_reads:
            self._short_reads.close()

    async def _run(
        self,
        sql: str,
        arguments: Sequence[Any],
        limit: AbstractContextManager[Any] = nullcontext(),  # noqa: B008 - it holds no state
    ) -> Sequence[Sequence[Any]]:
        # Admit only as many as there are connections: queueing in the pool costs more than a query.
        await _wait_for_turn(self._turns, self._options.pool_timeout)
        try:
            connection = await self._connect()
            try:
                with limit:
                    rows = await self._execute(connection.driver_connection, sql, arguments)
            except _VIOLATIONS as violation:
                connection.close()
                raise ConstraintViolated.of(violation) from violation
            except BaseException as failed:
                # Whatever failed, the state of this connection is unknown: never reuse it.
                await greenlet_spawn(connection.invalidate, failed)
                if meaning := error_for(failed):
                    raise meaning from failed
                raise
            connection.close()  # does not await: no transaction was begun
        finally:
            self._turns.release()
        return rows

    async def _connect(self) -> PoolProxiedConnection:
        pool = self._pool
        if pool.checkedin():
            # Taking an idle connection needs no greenlet: it does not await, unless it reconnects.
            with suppress(MissingGreenlet):
                return pool.connect()
        with pool_is_bounded():
            return await greenlet_spawn(pool.connect)


async def _wait_for_turn(
    turns: asyncio.Semaphore, seconds: float, what: str = "The database"
) -> None:
    if not turns.locked():
        await turns.acquire()
        return
    try:
        async with asyncio.timeout(seconds):
            await turns.acquire()
    except TimeoutError:
        raise Unavailable(what) from None


@contextmanager
def pool_is_bounded() -> Iterator[None]:
    try:
        yield
    except PoolTimeout:
        raise Unavailable("The database") from None


async def _execute_on_postgresql(
    connection: Any, sql: str, arguments: Sequence[Any]
) -> Sequence[Sequence[Any]]:
    rows: Sequence[Sequence[Any]] = await connection.fetch(sql, *arguments)
    return rows


async def _execute_on_sqlite(
    connection: Any, sql: str, arguments: Sequence[Any]
) -> Sequence[Sequence[Any]]:
    try:
        rows: Sequence[Sequence[Any]] = await connection.execute_fetchall(sql, arguments)
    except asyncio.CancelledError:
        await connection.interrupt()  # or its thread would finish the statement
        raise
    return rows
