"""Long reads end: when their client goes, when their time is over, when they are in the way."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from itertools import product
from typing import Any

import pytest
from sqlalchemy import Double, Integer, bindparam, cast, event, func, literal, select, text
from sqlalchemy.pool import QueuePool

from timberframe.data import driver, long_reads
from timberframe.data.engine import SqliteConnection
from timberframe.data.query import AnySelect
from timberframe.data.session import Database
from timberframe.errors import ReadTooLong, Unavailable
from timberframe.testing.databases import connections_taken


def sleep_in_steps() -> AnySelect:
    """On SQLite, where it can be interrupted between two steps of a millisecond."""
    number = bindparam("number", type_=Integer)
    slept = select(literal(0).label("n")).cte(recursive=True)
    step = func.sleep_microseconds(1000, type_=Integer)
    further = select(slept.c.n + step).where(slept.c.n < number)
    return select(func.count()).select_from(slept.union_all(further))


def sleep_for() -> AnySelect:
    """On PostgreSQL."""
    seconds = bindparam("number", type_=Integer) / literal(1e6, Double)
    return select(func.count()).select_from(func.pg_sleep(cast(seconds, Double)))


def take_time(database: Database) -> Callable[[], AnySelect]:
    """A second for each million: counting as long would take the cores from other tests."""
    return sleep_in_steps if database.engine.dialect.name == "sqlite" else sleep_for


steps = 0


def sleep_microseconds(microseconds: int) -> int:
    global steps
    steps += 1
    time.sleep(microseconds / 1e6)
    return microseconds


@pytest.fixture(autouse=True)
def sqlite_sleeps(database: Database) -> None:
    """The connection for short reads does not: what calls it takes one from the pool."""

    def add(connection: Any, entry: object) -> None:
        connection.create_function("sleep_microseconds", 1, sleep_microseconds)

    if database.engine.dialect.name == "sqlite":
        for engine in (database.engine, database._reading_engine):
            event.listen(engine.sync_engine, "connect", add)


async def by_fetch(database: Database, number: int) -> None:
    await database.fetch("take time", take_time(database), {"number": number})


async def by_searching(database: Database, number: int) -> None:
    async with database.searching() as db:
        await db.execute(take_time(database)(), {"number": number})


Ask = Callable[[Database, int], Coroutine[Any, Any, None]]
WAYS: tuple[Ask, ...] = (by_fetch, by_searching)


async def wait_until_idle(database: Database) -> None:
    """Nothing is running any more."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if connections_taken(database) == 0 and not await running(database):
            return
        await asyncio.sleep(0.05)
    raise TimeoutError("a statement goes on")


async def running(database: Database) -> int:
    if database.engine.dialect.name == "sqlite":
        before = steps
        await asyncio.sleep(0.05)
        return steps - before
    statement = text("""
        SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
        AND state = 'active' AND pid <> pg_backend_pid() AND query LIKE '%pg_sleep%'
    """)
    async with database.reading() as db:
        return await db.scalar(statement) or 0


async def test_time_of_a_list_is_bounded(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database._driver._long_reads, "most_seconds", 0.3)
    for ask in WAYS:
        with pytest.raises(ReadTooLong):
            await ask(database, 10**9)
        await wait_until_idle(database)
        await ask(database, 10)


async def test_cancelled_list_ends_in_the_database_too(database: Database) -> None:
    for ask in WAYS:
        task = asyncio.create_task(ask(database, 10**9))
        await asyncio.sleep(0.5)
        assert connections_taken(database) == 1  # the control: it is running
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await wait_until_idle(database)
        await ask(database, 10)


@pytest.mark.parametrize("engine", ["sqlite"])  # the other has no threads
async def test_list_that_is_cancelled_before_its_thread_begins_it_ends_too(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a busy process a thread may come to it late. SQLite forgets an interrupt before that."""
    execute: Any = SqliteConnection._execute

    async def execute_late(self: SqliteConnection, function: Any, *arguments: Any) -> Any:
        def wait_and_run() -> Any:
            time.sleep(0.1)
            return function(*arguments)

        return await execute(self, wait_and_run)

    moments = ((by_fetch, 0.05), (by_searching, 0.15))  # which begins a transaction first
    for (ask, moment), times in product(moments, (1, 2)):
        await ask(database, 10)  # or it would have to connect
        with monkeypatch.context() as patch:
            patch.setattr(SqliteConnection, "_execute", execute_late)
            task = asyncio.create_task(ask(database, 10**9))
            await asyncio.sleep(moment)
            for _ in range(times):
                task.cancel()
                await asyncio.sleep(0.01)
            await asyncio.wait([task], timeout=5)
        assert task.cancelled()
        await wait_until_idle(database)


async def test_few_long_lists_go_on_while_others_need_connections(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(long_reads, "SHORT_CHECKS", 2)
    pool = database.engine.pool
    assert isinstance(pool, QueuePool)
    tasks = [asyncio.create_task(by_fetch(database, 10**9)) for _ in range(pool.size() + 2)]
    done, pending = await asyncio.wait(tasks, timeout=3, return_when=asyncio.FIRST_COMPLETED)
    assert {type(task.exception()) for task in done} == {ReadTooLong}
    await asyncio.wait_for(by_fetch(database, 10), 30)  # others are served
    assert len([task for task in tasks if not task.done()]) >= 2
    for task in pending:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await wait_until_idle(database)


async def test_long_list_goes_on_while_there_are_connections(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control."""
    monkeypatch.setattr(long_reads, "SHORT_CHECKS", 1)
    for ask in WAYS:
        await asyncio.gather(*(ask(database, 300_000) for _ in range(4)))


async def test_many_short_statements_are_no_long_one(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search is several; in a busy process the time between them is that of others."""
    monkeypatch.setattr(long_reads, "SHORT_CHECKS", 3)
    pool = database.engine.pool
    assert isinstance(pool, QueuePool)

    async def search() -> None:
        async with database.searching() as db:
            for _ in range(8):
                await db.execute(take_time(database)(), {"number": 10})
                await asyncio.sleep(0.1)

    searches = pool.size() // 2
    async with AsyncExitStack() as others:
        for _ in range(pool.size() - searches):
            db = await others.enter_async_context(database.reading())
            await db.connection()
        await asyncio.gather(*(search() for _ in range(searches)))


async def test_searches_leave_half_of_the_connections_to_others(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "SEARCH_WAIT_SECONDS", 0.2)
    pool = database.engine.pool
    assert isinstance(pool, QueuePool)
    half = pool.size() // 2
    tasks = [asyncio.create_task(by_searching(database, 10**9)) for _ in range(pool.size())]
    await asyncio.sleep(0.5)
    # Half are running, which is the control; the others have not waited in vain for long.
    assert connections_taken(database) == half
    refused = [task.exception() for task in tasks if task.done()]
    assert [type(error) for error in refused] == [Unavailable] * (pool.size() - half)
    for _ in range(half):  # as many connections are there for what others ask
        await asyncio.wait_for(by_fetch(database, 10), 5)
    running_tasks = [task for task in tasks if not task.done()]
    for task in running_tasks:
        task.cancel()
    await asyncio.gather(*running_tasks, return_exceptions=True)
    await wait_until_idle(database)
    await by_searching(database, 10)  # each has given its turn back


async def test_burst_of_short_searches_is_served(database: Database) -> None:
    await asyncio.gather(*(by_searching(database, 10) for _ in range(100)))
