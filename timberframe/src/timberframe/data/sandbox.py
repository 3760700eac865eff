"""A database whose changes all vanish: everything runs in one transaction, which is rolled back."""

from collections.abc import AsyncIterator, Callable, Hashable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection

from timberframe.data.options import DatabaseOptions
from timberframe.data.query import AnySelect, AnyStatement
from timberframe.data.session import Database, run_on_begin
from timberframe.data.unit_of_work import ReadSession, UnitOfWork


class Sandbox(Database):
    """Each unit of work is a savepoint of one connection, so it may be used by one task at a time.

    On SQLite nobody else can write until it ends.
    """

    connection: AsyncConnection

    def session(self) -> UnitOfWork:
        return UnitOfWork(
            self.connection, expire_on_commit=False, join_transaction_mode="create_savepoint"
        )

    @asynccontextmanager
    async def transaction(
        self, *, first: Callable[[Connection], None] | None = None
    ) -> AsyncIterator[UnitOfWork]:
        async with self.session() as db, db.begin():
            if first:
                run_on_begin(db, first)
            yield db

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[ReadSession]:
        async with self.session() as db:
            yield db

    @asynccontextmanager
    async def autocommit(self) -> AsyncIterator[UnitOfWork]:
        async with self.transaction() as db:
            yield db

    @asynccontextmanager
    async def statements(self, *, may_lag: bool = False) -> AsyncIterator[ReadSession]:
        async with self.session() as db:
            yield db

    searching = statements

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[ReadSession]:
        async with self.session() as db:
            yield db

    async def fetch(
        self,
        shape: Hashable,
        build: Callable[[], AnySelect],
        values: Mapping[str, Any],
        *,
        may_lag: bool = False,
    ) -> Sequence[Sequence[Any]]:
        async with self.session() as db:
            return await db.fetch(shape, build, values)

    async def write(
        self,
        shape: Hashable,
        build: Callable[[], AnyStatement],
        values: Mapping[str, Any],
        *,
        lock: str | None = None,
    ) -> Sequence[Sequence[Any]]:
        async with self.transaction() as db:
            return await db.write(shape, build, values, lock=lock)


@asynccontextmanager
async def open_sandbox(options: DatabaseOptions) -> AsyncIterator[Sandbox]:
    """The database as a sandbox; a replica would not see what is written in it."""
    database = Sandbox(replace(options, replica_url=None))
    try:
        async with database.engine.connect() as database.connection:
            transaction = await database.connection.begin()
            if database.engine.dialect.name == "postgresql":
                # It waits for whoever types.
                limit = "SET LOCAL idle_in_transaction_session_timeout = 0"
                await database.connection.execute(text(limit))
            try:
                yield database
            finally:
                await transaction.rollback()
    finally:
        await database.dispose()
