"""Units of work: nothing lost, nothing half-written, every wait bounded."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from decimal import Decimal
from typing import Any, cast

import httpx2
import pytest
from sqlalchemy import Table, event, func, insert, literal, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from specimen.config import settings
from specimen.crud import product_crud
from specimen.models import Product
from specimen.schemas import ProductCreate
from timberframe.crud.policy import SERVER
from timberframe.data.query import AnyStatement
from timberframe.data.session import Database
from timberframe.data.short_reads import ShortReads
from timberframe.errors import Conflict, Unavailable
from timberframe.testing import ALICE, database_options

CHAIR = ProductCreate(sku="S", name="Chair", price=Decimal(1))
UnitOfWork = Callable[[], AbstractAsyncContextManager[AsyncSession]]


@pytest.fixture
async def product(database: Database) -> None:
    async with database.transaction() as db:
        db.add(Product(sku="S", name="Chair", price=Decimal(1), currency="EUR", owner_id=ALICE.id))


async def stock_after_sixty_increments(database: Database, unit_of_work: UnitOfWork) -> int:
    async def increment_ten_times() -> None:
        for _ in range(10):
            async with unit_of_work() as db:
                stock = (await db.scalars(select(Product.stock).with_for_update())).one()
                await db.execute(update(Product).values(stock=stock + 1))

    await asyncio.gather(*(increment_ten_times() for _ in range(6)))
    async with database.reading() as db:
        return (await db.scalars(select(Product.stock))).one()


async def test_concurrent_updates_are_not_lost(database: Database, product: None) -> None:
    assert await stock_after_sixty_increments(database, database.transaction) == 60


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
async def test_default_transactions_of_sqlite_lose_updates(
    database: Database, product: None
) -> None:
    """The control: the same work without our BEGIN IMMEDIATE."""
    default = create_async_engine(settings.DATABASE_URL.get_secret_value())
    try:
        sessions = async_sessionmaker(default)
        assert await stock_after_sixty_increments(database, sessions.begin) < 60
    finally:
        await default.dispose()


async def test_exception_rolls_everything_back(database: Database, product: None) -> None:
    with contextlib.suppress(ZeroDivisionError):
        async with database.transaction() as db:
            (await db.scalars(select(Product))).one().stock = 5
            await db.flush()
            raise ZeroDivisionError
    async with database.reading() as db:
        assert (await db.scalars(select(Product.stock))).one() == 0


async def test_failed_commit_is_never_answered_with_success(
    database: Database, alice: httpx2.AsyncClient
) -> None:
    def fail(connection: object) -> None:
        raise RuntimeError

    event.listen(database.engine.sync_engine, "commit", fail)
    product = {"sku": "S", "name": "Chair", "price": 1}
    answer = await alice.post("/products/", json=product, headers={"Idempotency-Key": "k"})
    event.remove(database.engine.sync_engine, "commit", fail)
    assert answer.status_code == 500
    async with database.reading() as db:
        assert (await db.scalars(select(Product))).all() == []
    assert (await alice.get("/products/")).json()["total"] == 0


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
async def test_statement_that_fails_when_it_is_committed_is_no_success(
    database: Database, alice: httpx2.AsyncClient
) -> None:
    """It has returned its row by then."""
    async with database.transaction() as db:
        await db.execute(
            text(
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
                " RAISE 'no' USING ERRCODE = 'disk_full'; END $$"
            )
        )
        await db.execute(
            text(
                "CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON products"
                " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()"
            )
        )
    answer = await alice.post("/products/", json={"sku": "S", "name": "Chair", "price": 1})
    assert answer.status_code == 503
    assert (await alice.get("/products/")).json()["total"] == 0


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
async def test_own_queries_are_in_no_transaction(database: Database) -> None:
    """`now()` is the start of the transaction: without one it moves between statements."""

    async def moves(unit_of_work: UnitOfWork) -> bool:
        async with unit_of_work() as db:
            first = await db.scalar(select(func.now()))
            return bool(first != await db.scalar(select(func.now())))

    assert await moves(database.statements)
    assert not await moves(database.transaction)


async def test_reads_refuse_to_write(database: Database, product: None) -> None:
    change = text("UPDATE products SET stock = 1")
    for session in (database.reading, database.snapshot):
        with pytest.raises(DBAPIError):
            async with session() as db:
                await db.execute(change)
    async with database.autocommit() as db:  # the control
        await db.execute(change)
    async with database.reading() as db:
        assert (await db.scalars(select(Product.stock))).one() == 1


async def test_reader_does_not_block_writers(database: Database, product: None) -> None:
    async with database.reading() as reader:
        stock = (await reader.scalars(select(Product.stock))).one()
        async with database.transaction() as db:
            (await db.scalars(select(Product))).one().stock = stock + 1
        assert (await reader.scalars(select(Product.stock))).one() == stock + 1


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
async def test_sqlite_keeps_what_was_committed_when_the_power_fails(database: Database) -> None:
    async with database.reading() as db:
        assert await db.scalar(text("PRAGMA journal_mode")) == "wal"
        assert await db.scalar(text("PRAGMA synchronous")) == 2  # FULL
        assert await db.scalar(text("PRAGMA foreign_keys")) == 1


@pytest.fixture
async def hasty_database(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Database]:
    """One connection, and hardly any patience."""
    monkeypatch.setattr(settings, "DATABASE_POOL_SIZE", 1)
    monkeypatch.setattr(settings, "DATABASE_POOL_TIMEOUT_SECONDS", 0.2)
    monkeypatch.setattr(settings, "DATABASE_STATEMENT_TIMEOUT_SECONDS", 0.2)
    monkeypatch.setattr(settings, "DATABASE_LOCK_TIMEOUT_SECONDS", 0.2)
    database = Database(database_options())
    yield database
    await database.dispose()


async def refused_within_two_seconds(
    work: AbstractAsyncContextManager[AsyncSession], sql: str
) -> bool:
    started = time.monotonic()
    with pytest.raises(Unavailable):
        async with work as db:
            await db.execute(text(sql))
    return time.monotonic() - started < 2


async def test_full_pool_is_refused(hasty_database: Database) -> None:
    async with hasty_database.reading() as db:
        await db.execute(text("SELECT 1"))
        assert await refused_within_two_seconds(hasty_database.reading(), "SELECT 1")
    await hasty_database.check()


async def test_reads_take_turns_and_none_waits_for_ever(
    hasty_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ShortReads, "fetch", lambda *_: None)  # they need no turn

    def read() -> Awaitable[Sequence[Sequence[object]]]:
        return hasty_database.fetch("one", lambda: select(literal(1)), {})

    for cancelled in (False, True):
        waiting = [asyncio.ensure_future(read()) for _ in range(20)]
        if cancelled:
            await asyncio.sleep(0)
            for each in waiting:
                each.cancel()
        answers = await asyncio.gather(*waiting, return_exceptions=True)
        assert len(answers) == 20
        assert cancelled or all(not isinstance(rows, BaseException) for rows in answers)
    async with hasty_database.autocommit() as db:
        await db.execute(text("SELECT 1"))
        refused = await asyncio.gather(read(), read(), return_exceptions=True)
        assert [type(each) for each in refused] == [Unavailable, Unavailable]
    assert [tuple(row) for row in await read()] == [(1,)]


async def test_held_lock_is_not_waited_for_long(
    database: Database, hasty_database: Database, product: None
) -> None:
    change = "UPDATE products SET stock = 1"
    async with database.transaction() as db:
        await db.execute(text(change))
        assert await refused_within_two_seconds(hasty_database.transaction(), change)
    async with hasty_database.transaction() as db:
        await db.execute(text(change))


def same_sku() -> AnyStatement:
    table = cast(Table, Product.__table__)
    row = {"sku": "S", "name": "", "price_cents": Decimal(1), "currency": "", "owner_id": ALICE.id}
    values = select(*(literal(value, table.c[name].type) for name, value in row.items()))
    statement = insert(table).from_select([*row], values, include_defaults=False)
    return statement.returning(table.c.id)


async def test_write_of_one_statement_waits_no_longer(
    database: Database, hasty_database: Database, product: None
) -> None:
    async with database.transaction() as db:
        await db.execute(text("UPDATE products SET sku = 'T'"))
        started = time.monotonic()
        writes = (hasty_database.write("same sku", same_sku, {}) for _ in range(20))
        refused = await asyncio.gather(*writes, return_exceptions=True)
        assert [type(each) for each in refused] == [Unavailable] * 20
        assert time.monotonic() - started < 2
    assert await hasty_database.write("same sku", same_sku, {})


async def test_only_sqlite_has_its_writers_queue(
    engine: str, database: Database, alice: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has one writer at a time, and who waits for it there looks again and again."""
    driver, writing, most = database._driver, 0, 0
    execute = driver._execute

    async def counted(connection: Any, sql: str, arguments: Sequence[Any]) -> Sequence[Any]:
        nonlocal writing, most
        writing += sql.startswith("INSERT")
        most = max(most, writing)
        try:
            return await execute(connection, sql, arguments)
        finally:
            writing -= sql.startswith("INSERT")

    monkeypatch.setattr(driver, "_execute", counted)
    products = ({"sku": f"S-{number}", "name": "Chair", "price": 1} for number in range(20))
    answers = await asyncio.gather(*(alice.post("/products/", json=each) for each in products))
    assert {answer.status_code for answer in answers} == {201}
    assert (most == 1) is (engine == "sqlite")


async def test_row_that_a_rule_forbids_is_not_kept_although_it_was_returned(
    database: Database,
) -> None:
    """SQLite looks for what a row refers to after it has returned it."""
    with pytest.raises(Conflict):
        await product_crud.create(database, obj_in=CHAIR, viewer=SERVER, owner_id=99)
    async with database.reading() as db:
        assert (await db.scalars(select(Product))).all() == []
    assert await product_crud.create(database, obj_in=CHAIR, viewer=SERVER, owner_id=ALICE.id)


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
async def test_slow_statement_is_ended(hasty_database: Database) -> None:
    assert await refused_within_two_seconds(hasty_database.reading(), "SELECT pg_sleep(60)")
    await hasty_database.check()
