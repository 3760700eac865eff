"""The database as the application uses it: units of work, reads, single statements, snapshots."""

from collections.abc import AsyncIterator, Callable, Hashable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

from sqlalchemy import Connection, event, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session, SessionTransaction
from sqlalchemy.pool import QueuePool

from timberframe.data.driver import Driver, pool_is_bounded
from timberframe.data.engine import create_engine
from timberframe.data.options import DatabaseOptions
from timberframe.data.query import AnySelect, AnyStatement
from timberframe.data.replica import WRITTEN, Replica
from timberframe.data.retries import TransactionConflict
from timberframe.data.unit_of_work import ReadSession, UnitOfWork
from timberframe.errors import Unavailable
from timberframe.security.keys import Keys


class Database:
    """One database with its replica, if there is one, and the ways to use them."""

    def __init__(self, options: DatabaseOptions) -> None:
        self.options = options
        self.keys = Keys(options.secret)
        self.engine = create_engine(options)
        self._driver = Driver(self.engine, options)
        self.replica = (
            Replica(options.at(options.replica_url), self._read_written)
            if options.replica_url
            else None
        )
        if self.engine.dialect.name == "sqlite":
            # Read-only connections of their own: setting a PRAGMA per use would cost a thread hop.
            self._reading_engine = create_engine(options, is_read_only=True)
            # sqlite3 autocommits unless BEGIN is sent.
            autocommit = self.engine.execution_options(begin=None)
            reading = statements = self._reading_engine.execution_options(begin=None)
            snapshot = self._reading_engine.execution_options(begin="BEGIN")
        else:
            self._reading_engine = self.engine
            autocommit = statements = self.engine.execution_options(isolation_level="AUTOCOMMIT")
            reading = self.engine.execution_options(postgresql_readonly=True)
            snapshot = reading.execution_options(isolation_level="REPEATABLE READ")
        self._writing = async_sessionmaker(self.engine, class_=UnitOfWork, expire_on_commit=False)
        self._reading, self._autocommit, self._statements, self._snapshots = (
            async_sessionmaker(each, class_=UnitOfWork, expire_on_commit=False, autoflush=False)
            for each in (reading, autocommit, statements, snapshot)
        )

    def session(self) -> UnitOfWork:
        """A session that nobody commits but its user."""
        return self._writing()

    @asynccontextmanager
    async def transaction(
        self, *, first: Callable[[Connection], None] | None = None
    ) -> AsyncIterator[UnitOfWork]:
        """A unit of work: committed on return, rolled back on any exception.

        It begins with its first statement, and `first` runs before that one.
        """
        with pool_is_bounded():
            async with self._writing() as db:
                if first:
                    run_on_begin(db, first)
                yield db
                try:
                    await db.commit()
                except BaseException:
                    # SQLAlchemy considers the transaction ended and would give the connection to
                    # the next request; on SQLite it may still be open and hold the write lock.
                    await db.invalidate()
                    raise

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[ReadSession]:
        """A read-only session; each statement sees what is committed when it runs."""
        with pool_is_bounded():
            async with self._reading() as db:
                yield db

    @asynccontextmanager
    async def autocommit(self) -> AsyncIterator[UnitOfWork]:
        """A session in which each statement is committed by itself."""
        with pool_is_bounded():
            async with self._autocommit() as db:
                yield db

    @asynccontextmanager
    async def statements(self, *, may_lag: bool = False) -> AsyncIterator[ReadSession]:
        """As `reading`, for the frame's own queries: without round trips for BEGIN and ROLLBACK.

        With `may_lag` it uses the replica, if that is fresh.
        """
        if may_lag and self.replica and await self.replica.is_fresh():
            async with self.replica.reading() as replica_db:
                yield replica_db
            return
        with pool_is_bounded():
            async with self._statements() as db:
                yield db

    @asynccontextmanager
    async def searching(self, *, may_lag: bool = False) -> AsyncIterator[ReadSession]:
        """As `statements`, for searches: few run at once, each with the time limit of `fetch`."""
        async with self._driver.search_turn(), self.statements(may_lag=may_lag) as db:
            limit = self._driver.limit(cast(QueuePool, db.get_bind().engine.pool))
            # Get the connection first: waiting for it does not count towards the limit.
            await db.connection(execution_options={"read_limit": limit})
            with limit:
                yield db

    async def fetch(
        self,
        shape: Hashable,
        build: Callable[[], AnySelect],
        values: Mapping[str, Any],
        *,
        may_lag: bool = False,
    ) -> Sequence[Sequence[Any]]:
        """The rows of one query, as the driver gives them.

        The query is built and compiled once for each `shape`, which must contain all that `build`
        depends on. With `may_lag` it runs on the replica, if that is fresh.
        """
        if may_lag and self.replica and await self.replica.is_fresh():
            try:
                return await self.replica.fetch(shape, build, values)
            except (Unavailable, TransactionConflict):  # WAL replay may cancel a query
                self.replica.mark_down()
        return await self._driver.fetch(shape, build, values)

    async def write(
        self,
        shape: Hashable,
        build: Callable[[], AnyStatement],
        values: Mapping[str, Any],
        *,
        lock: str | None = None,
    ) -> Sequence[Sequence[Any]]:
        """As `fetch`, for one statement that changes rows, as a unit of work by itself.

        Raise `ConstraintViolated` if a constraint forbids it. With `lock` the statement sees what
        earlier holders of the same lock have committed.
        """
        if lock and self.engine.dialect.name == "postgresql":
            async with self.transaction() as db:
                return await db.write(shape, build, values, lock=lock)
        return await self._driver.write(shape, build, values)

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[ReadSession]:
        """A session whose reads all see one snapshot, however long they take."""
        with pool_is_bounded():
            async with self._snapshots() as db:
                yield db

    async def dispose(self) -> None:
        self._driver.close()
        await self.engine.dispose()
        await self._reading_engine.dispose()
        if self.replica:
            await self.replica.engine.dispose()

    async def check(self) -> None:
        """Raise `Unavailable` unless the database answers."""
        async with self.reading() as db:
            await db.execute(text("SELECT 1"))

    async def _read_written(self) -> int:
        async with self.reading() as db:
            return int(await db.scalar(WRITTEN) or 0)


@asynccontextmanager
async def open_database(options: DatabaseOptions) -> AsyncIterator[Database]:
    """The database; its connections are closed at the end."""
    database = Database(options)
    try:
        yield database
    finally:
        await database.dispose()


async def end_unit(db: AsyncSession, *, is_kept: bool) -> None:
    """Commit or roll back, where one session goes through several units of work: in a shell."""
    if is_kept:
        await db.commit()
    else:
        await db.rollback()


def run_on_begin(db: AsyncSession, first: Callable[[Connection], None]) -> None:
    """Run `first` when the session's next transaction begins."""

    def run(session: Session, transaction: SessionTransaction, connection: Connection) -> None:
        first(connection)

    # Once, because savepoints begin too.
    event.listen(db.sync_session, "after_begin", run, once=True)
