"""The database: how a unit of work begins and ends, and where reads go."""

from collections.abc import AsyncIterator, Callable, Hashable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

from sqlalchemy import event, func, select, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session, SessionTransaction
from sqlalchemy.pool import QueuePool

from app.core.config import settings
from app.core.errors import Unavailable
from app.db.driver import Driver, pool_is_bounded
from app.db.engine import create_engine
from app.db.failures import ConstraintViolated
from app.db.query import AnySelect, AnyStatement, Write
from app.db.replica import WRITTEN, Replica
from app.db.retries import TransactionConflict


class Database:
    """One database, with a replica if there is one, and the ways to use it."""

    def __init__(self, url: str, replica_url: str | None = None) -> None:
        self.engine = create_engine(url)
        is_sqlite = self.engine.dialect.name == "sqlite"
        # sqlite3 commits by itself unless told BEGIN; asyncpg must be told to.
        autocommit = {"begin": None} if is_sqlite else {"isolation_level": "AUTOCOMMIT"}
        repeatable = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        snapshot = {"begin": "BEGIN"} if is_sqlite else repeatable
        self._driver = Driver(self.engine)
        self.replica = Replica(replica_url, self._read_written) if replica_url else None
        self._writing = async_sessionmaker(self.engine, expire_on_commit=False)
        self._reading = async_sessionmaker(
            self.engine.execution_options(**autocommit), expire_on_commit=False, autoflush=False
        )
        self._snapshots = async_sessionmaker(
            self.engine.execution_options(**snapshot), expire_on_commit=False, autoflush=False
        )

    @asynccontextmanager
    async def transaction(
        self, *, first: Callable[[Connection], None] | None = None
    ) -> AsyncIterator[AsyncSession]:
        """A unit of work: committed on return, rolled back on any exception.

        It begins with its first statement, and `first` runs before that one.
        """
        with pool_is_bounded():
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
    async def reading(self, *, may_lag: bool = False) -> AsyncIterator[AsyncSession]:
        """For reads alone: each statement by itself, without BEGIN and ROLLBACK round trips."""
        if may_lag and self.replica and await self.replica.is_close():
            async with self.replica.reading() as db:
                yield db
            return
        with pool_is_bounded():
            async with self._reading() as db:
                yield db

    @asynccontextmanager
    async def searching(self, *, may_lag: bool = False) -> AsyncIterator[AsyncSession]:
        """As `reading`, for a search: few run at once, and each is ended as a `fetch` is."""
        async with self._driver.search_turn(), self.reading(may_lag=may_lag) as db:
            limit = self._driver.limit(cast(QueuePool, db.get_bind().engine.pool))
            # Waiting for a connection does not count.
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
        """The rows of one query, as the driver gives them; it is built and compiled once a shape.

        For the reads that are asked for most; those that `may_lag` go to the replica, if there is
        one that follows closely.
        """
        if may_lag and self.replica and await self.replica.is_close():
            try:
                return await self.replica.fetch(shape, build, values)
            except (Unavailable, TransactionConflict):  # replay cancels a query too
                self.replica.leave()
        return await self._driver.fetch(shape, build, values)

    async def write(
        self,
        shape: Hashable,
        build: Callable[[], AnyStatement],
        values: Mapping[str, Any],
        *,
        lock: str | None = None,
    ) -> Sequence[Sequence[Any]]:
        """As `fetch`, for one statement that changes rows and is a unit of work by itself.

        Raise `ConstraintViolated` if a rule of the database forbids it. `lock` is for `Write`.
        """
        if lock and self.engine.dialect.name == "postgresql":
            async with self.transaction() as db:
                return await in_session(db)(shape, build, values, lock=lock)
        return await self._driver.write(shape, build, values)

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[AsyncSession]:
        """For reads that are to see one state, however long they take and whatever is written."""
        with pool_is_bounded():
            async with self._snapshots() as db:
                yield db

    async def dispose(self) -> None:
        self._driver.close()
        await self.engine.dispose()
        if self.replica:
            await self.replica.engine.dispose()

    async def _read_written(self) -> int:
        async with self.reading() as db:
            return int(await db.scalar(WRITTEN) or 0)

    async def check(self) -> None:
        """Raise `Unavailable` unless the database answers."""
        async with self.reading() as db:
            await db.execute(text("SELECT 1"))


def in_session(db: AsyncSession) -> Write:
    """Runs statements as `Database.fetch` and `write` do, in a unit of work that has others too."""

    async def execute(
        shape: Hashable,
        build: Callable[[], AnyStatement],
        values: Mapping[str, Any],
        *,
        lock: str | None = None,
    ) -> Sequence[Sequence[Any]]:
        if lock:
            await take_lock(db, lock)
        try:
            return (await db.execute(build(), values)).all()
        except IntegrityError as violation:
            raise ConstraintViolated.of(violation) from violation

    return execute


async def take_lock(db: AsyncSession, name: str) -> None:
    """Hold the lock until the transaction ends: each statement after it sees what others who held
    it have committed. SQLite has one writer at a time anyway.
    """
    if db.get_bind().dialect.name == "postgresql":
        await db.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(name, 0))))


@asynccontextmanager
async def open_database() -> AsyncIterator[Database]:
    """The database of the settings; its connections are closed at the end."""
    replica_url = settings.DATABASE_REPLICA_URL
    database = Database(
        settings.DATABASE_URL.get_secret_value(),
        replica_url.get_secret_value() if replica_url else None,
    )
    try:
        yield database
    finally:
        await database.dispose()


def _run_on_begin(db: AsyncSession, first: Callable[[Connection], None]) -> None:
    def run(session: Session, transaction: SessionTransaction, connection: Connection) -> None:
        first(connection)

    # Once: a savepoint begins too.
    event.listen(db.sync_session, "after_begin", run, once=True)
