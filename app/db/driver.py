"""Statements run on the driver itself: SQLAlchemy's own execution costs four times what they do."""

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

from app.core.config import settings
from app.core.errors import Unavailable
from app.db.failures import ConstraintViolated, meaning_of
from app.db.long_reads import LongReads, ReadLimit
from app.db.query import AnyStatement, Queries
from app.db.short_reads import ShortReads

# Long enough for a burst of short ones, short enough not to keep connections of clients.
SEARCH_WAIT_SECONDS = 1
_VIOLATIONS = (asyncpg.IntegrityConstraintViolationError, sqlite3.IntegrityError)


class Driver:
    """Each statement is a transaction by itself, on a connection of an engine's pool.

    A statement is built and compiled once a shape, and its rows are as the driver gives them.
    SQLite's short reads have a connection of their own.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        is_sqlite = engine.dialect.name == "sqlite"
        self._pool = cast(QueuePool, engine.sync_engine.pool)
        self._turns = asyncio.Semaphore(settings.DATABASE_POOL_SIZE)
        # SQLite has one writer, and who waits for it there looks again and again.
        self._write_turns = asyncio.Semaphore(1) if is_sqlite else None
        self._queries = Queries(engine.dialect)
        self._execute = _execute_on_sqlite if is_sqlite else _execute_on_postgresql
        self._short_reads = ShortReads(engine) if is_sqlite else None
        self._long_reads = LongReads()
        self._search_turns = asyncio.Semaphore(max(1, settings.DATABASE_POOL_SIZE // 2))

    async def fetch(
        self, shape: Hashable, build: Callable[[], AnyStatement], values: Mapping[str, Any]
    ) -> Sequence[Sequence[Any]]:
        """The rows of a query."""
        query = self._queries.get(shape, build)
        arguments = query.arguments(values)
        if self._short_reads:
            rows = self._short_reads.fetch(query.sql, arguments)
            if rows is not None:
                return rows
        return await self._run(query.sql, arguments, self.limit())

    def limit(self, pool: QueuePool | None = None) -> ReadLimit:
        """For what is read with a connection of `pool`: it is ended if it takes too long."""
        return ReadLimit(self._long_reads, pool or self._pool)

    @asynccontextmanager
    async def search_turn(self) -> AsyncIterator[None]:
        """Wait for one before a connection is taken; raise `Unavailable` if there is none for long.

        Searches read far more than lists do: however many there are, half of the connections are
        left to the rest.
        """
        await _wait_for_turn(self._search_turns, SEARCH_WAIT_SECONDS, "Search")
        try:
            yield
        finally:
            self._search_turns.release()

    async def write(
        self, shape: Hashable, build: Callable[[], AnyStatement], values: Mapping[str, Any]
    ) -> Sequence[Sequence[Any]]:
        """What a statement returns that changes rows; raise `ConstraintViolated` if it may not."""
        query = self._queries.get(shape, build)
        arguments = query.arguments(values)
        if self._write_turns is None:
            return await self._run(query.sql, arguments)
        await _wait_for_turn(self._write_turns, settings.DATABASE_LOCK_TIMEOUT_SECONDS)
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
        # As many as there are connections go on: the pool's own queue costs more than a query.
        await _wait_for_turn(self._turns, settings.DATABASE_POOL_TIMEOUT_SECONDS)
        try:
            connection = await self._connect()
            try:
                with limit:
                    rows = await self._execute(connection.driver_connection, sql, arguments)
            except _VIOLATIONS as violation:
                connection.close()
                raise ConstraintViolated.of(violation) from violation
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

    async def _connect(self) -> PoolProxiedConnection:
        pool = self._pool
        if pool.checkedin():
            # One that lies ready is taken without awaiting, for which no greenlet is needed.
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
        await connection.interrupt()  # its thread would go on
        raise
    return rows
