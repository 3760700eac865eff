"""Queries run on the driver itself: SQLAlchemy's own execution costs four times what they do."""

import asyncio
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, cast

from sqlalchemy.exc import MissingGreenlet
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import PoolProxiedConnection, QueuePool
from sqlalchemy.util import greenlet_spawn

from app.core.config import settings
from app.core.errors import Unavailable
from app.db.failures import meaning_of
from app.db.query import AnySelect, Queries


class Reader:
    """Uses the connections of an engine's pool, without BEGIN and ROLLBACK round trips."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._pool = cast(QueuePool, engine.sync_engine.pool)
        self._turns = asyncio.Semaphore(settings.DATABASE_POOL_SIZE)
        self._queries = Queries(engine.dialect)
        is_sqlite = engine.dialect.name == "sqlite"
        self._run = _run_on_sqlite if is_sqlite else _run_on_postgresql

    async def fetch(
        self, shape: Hashable, build: Callable[[], AnySelect], values: Mapping[str, Any]
    ) -> Sequence[Sequence[Any]]:
        """The rows of a query, as the driver gives them; it is built and compiled once a shape."""
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
        with pool_is_bounded():
            return await greenlet_spawn(pool.connect)


@contextmanager
def pool_is_bounded() -> Iterator[None]:
    try:
        yield
    except PoolTimeout:
        raise Unavailable("The database") from None


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
