"""Deleting an account with many rows: in batches, gone on with after whatever interrupted it."""

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import httpx2
import pytest
from sqlalchemy import (
    Column,
    ForeignKey,
    Integer,
    MetaData,
    Table,
    delete,
    func,
    insert,
    select,
    text,
)

from specimen.config import settings
from specimen.factories import create
from specimen.main import app
from specimen.models import Category, Product, StockMovement, User, product_tags
from timberframe.crud import deletion
from timberframe.crud.deletion import Deletion, check_nothing_forbids
from timberframe.data.base import utc_now
from timberframe.data.session import Database
from timberframe.errors import Conflict, Unavailable
from timberframe.testing import ADMIN, ALICE, BOB, client_of, lifespan

ROWS = 120
SLOW_ROWS = 120  # more than a second, at 10 ms each
PATH = f"/users/{ALICE.id}"


@pytest.fixture(autouse=True)
def one_small_batch_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deletion, "BATCH_ROWS", 40)
    monkeypatch.setattr(deletion, "CASCADED_ROWS", 20)
    monkeypatch.setattr(deletion, "SECONDS", 0)


async def fill(database: Database, count: int = ROWS) -> None:
    """Products of alice, each with a category, two tags, and a movement that bob made."""
    async with database.transaction() as db:
        await db.execute(insert(Category).values(slug="chairs", name="Chairs"))
        products = [
            {
                "sku": f"S-{n}",
                "name": "Stool",
                "price": Decimal(1),
                "currency": "EUR",
                "owner_id": ALICE.id,
                "category": "chairs",
                "tags": ["red", "oak"],
            }
            for n in range(count)
        ]
        ids = await db.scalars(insert(Product).returning(Product.id), products)
        moved = {"delta": 1, "stock": 1, "reason": "New", "moved_by_id": BOB.id}
        moved["created_at"] = utc_now()
        await db.execute(insert(StockMovement), [moved | {"product_id": each} for each in ids])


async def left(database: Database) -> int:
    async with database.reading() as db:
        return await db.scalar(select(func.count()).where(Product.owner_id == ALICE.id)) or 0


async def test_account_is_disabled_at_once_and_deleted_request_by_request(
    admin: httpx2.AsyncClient,
    alice: httpx2.AsyncClient,
    bob: httpx2.AsyncClient,
    database: Database,
) -> None:
    other = await create(bob, category=None)
    async with database.transaction() as db:
        moved = {"product_id": other["id"], "delta": 1, "stock": 1, "reason": "Help"}
        rows = [moved | {"moved_by_id": ALICE.id, "created_at": utc_now()}] * 100
        await db.execute(insert(StockMovement), rows)
    await fill(database)
    condition = {"If-Match": (await admin.get(PATH)).headers["ETag"]}
    assert (await admin.delete(PATH, headers={"If-Match": '"77"'})).status_code == 412
    assert (await alice.get("/users/me")).status_code == 200
    before = ROWS
    for number in range(ROWS):
        answer = await admin.delete(PATH, headers=condition)
        if answer.status_code == 204:
            break
        assert (answer.status_code, answer.json()["code"]) == (503, "deletion_unfinished")
        assert answer.headers["Retry-After"] == "1"
        assert before - deletion.BATCH_ROWS <= await left(database) <= before
        before = await left(database)
        if number == 0:
            assert (await alice.get("/users/me")).status_code == 401
            form = {"username": ALICE.name, "password": ALICE.password}
            assert (await alice.post("/auth/login", data=form)).status_code == 401
            assert (await admin.get(PATH)).json()["is_active"] is False
            enabled = await admin.patch(PATH, json={"is_active": True})
            assert (enabled.status_code, enabled.json()["code"]) == (409, "conflict")
    assert number > ROWS / deletion.BATCH_ROWS
    assert (await admin.delete(PATH)).status_code == 404
    async with database.reading() as db:
        assert list(await db.scalars(select(Product.id))) == [other["id"]]
        assert await db.scalar(select(func.count()).select_from(product_tags)) == 0
        movements = (await db.execute(select(StockMovement.moved_by_id, StockMovement.id))).all()
        assert [row.moved_by_id for row in movements] == [None] * 100
    assert (await admin.get("/products/", params={"q": "stool"})).json()["total"] == 0


async def test_deletion_that_was_interrupted_is_gone_on_with(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deletion, "SECONDS", 60)
    async with lifespan(app), client_of(ADMIN) as admin:
        await fill(app.state.database)
        under_way = asyncio.create_task(admin.delete(PATH))
        while await left(app.state.database) == ROWS:  # noqa: ASYNC110 - a database has no event
            await asyncio.sleep(0)
        under_way.cancel()
        await asyncio.wait([under_way])
        assert under_way.cancelled()
        assert 0 < await left(app.state.database) < ROWS
    async with lifespan(app), client_of(ADMIN) as admin:
        assert (await admin.get(PATH)).json()["is_active"] is False
        assert (await admin.delete(PATH)).status_code == 204
        assert await left(app.state.database) == 0


async def test_deletions_of_one_account_at_once_delete_it_once(
    admin: httpx2.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deletion, "SECONDS", 60)
    await fill(database)
    answers = await asyncio.gather(*(admin.delete(PATH) for _ in range(3)))
    assert sorted(answer.status_code for answer in answers) == [204, 404, 404]
    assert await left(database) == 0


@pytest.fixture
async def slow_rows(database: Database) -> Database:
    """PostgreSQL takes 10 ms for each product that it deletes."""
    async with database.transaction() as db:
        await db.execute(
            text(
                "CREATE FUNCTION take_time() RETURNS trigger LANGUAGE plpgsql AS"
                " $$ BEGIN PERFORM pg_sleep(0.01); RETURN OLD; END $$"
            )
        )
        on_delete = "BEFORE DELETE ON products FOR EACH ROW EXECUTE FUNCTION take_time()"
        await db.execute(text(f"CREATE TRIGGER take_time {on_delete}"))
    return database


@pytest.fixture
def short_statements(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "DATABASE_STATEMENT_TIMEOUT_SECONDS", 1)


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
@pytest.mark.usefixtures("short_statements")
async def test_more_rows_than_one_statement_can_delete_are_deleted(
    slow_rows: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deletion, "SECONDS", 60)
    monkeypatch.setattr(deletion, "BATCH_ROWS", 20)
    await fill(slow_rows, SLOW_ROWS)
    async with client_of(ADMIN) as admin:
        assert (await admin.delete(PATH)).status_code == 204
    assert await left(slow_rows) == 0


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
@pytest.mark.usefixtures("short_statements")
async def test_control_one_statement_does_not_delete_them(slow_rows: Database) -> None:
    await fill(slow_rows, SLOW_ROWS)
    with pytest.raises(Unavailable):
        async with slow_rows.transaction() as db:
            await db.execute(delete(User).where(User.id == ALICE.id))
    assert await left(slow_rows) == SLOW_ROWS


METADATA = MetaData()
WRITERS = Table("writers", METADATA, Column("id", Integer, primary_key=True))
BOOKS = Table(
    "books",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("writer_id", ForeignKey("writers.id", ondelete="CASCADE"), index=True),
    Column("editor_id", ForeignKey("writers.id", ondelete="SET NULL"), index=True),
)
PAGES = Table(
    "pages",
    METADATA,
    Column("book_id", ForeignKey("books.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
)
NOTES = Table(
    "notes",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("writer_id", ForeignKey("writers.id", ondelete="CASCADE"), index=True),
    Column("answer_to", ForeignKey("notes.id", ondelete="CASCADE"), index=True),
)
LOANS = Table(
    "loans",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("writer_id", ForeignKey("writers.id", ondelete="CASCADE"), index=True),
    Column("book_id", ForeignKey("books.id"), index=True),
)
HERS, HIS = 1, 2


@pytest.fixture(params=[0, 10])
async def library(
    database: Database, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> AsyncIterator[Database]:
    """Two writers, each with three books of seven pages, which the other edits, and more."""
    monkeypatch.setattr(deletion, "BATCH_ROWS", 2)
    monkeypatch.setattr(deletion, "CASCADED_ROWS", request.param)
    async with database.transaction() as db:
        await (await db.connection()).run_sync(METADATA.create_all)
        await db.execute(insert(WRITERS), [{"id": HERS}, {"id": HIS}])
        for writer, other in ((HERS, HIS), (HIS, HERS)):
            for n in range(writer * 10, writer * 10 + 3):
                await db.execute(insert(BOOKS).values(id=n, writer_id=writer, editor_id=other))
                for number in range(7):
                    await db.execute(insert(PAGES).values(book_id=n, number=number))
                await db.execute(insert(NOTES).values(id=n, writer_id=writer))
                await db.execute(insert(NOTES).values(id=n + 5, writer_id=other, answer_to=n))
                await db.execute(insert(LOANS).values(id=n, writer_id=writer, book_id=n))
    yield database
    async with database.transaction() as db:
        await (await db.connection()).run_sync(METADATA.drop_all)


async def all_of(database: Database, *columns: Any) -> list[Any]:
    async with database.reading() as db:
        return [tuple(row) for row in await db.execute(select(*columns).order_by(*columns))]


async def test_what_is_deleted_follows_from_the_foreign_keys(library: Database) -> None:
    async with library.reading() as db:
        await check_nothing_forbids(db, WRITERS, WRITERS.c.id == HERS)
    assert await Deletion(library, seconds=60).run(WRITERS, [HERS])
    assert not await Deletion(library, seconds=60).run(WRITERS, [HERS])
    assert await all_of(library, WRITERS.c.id) == [(HIS,)]
    books = [(20, HIS, None), (21, HIS, None), (22, HIS, None)]
    assert await all_of(library, BOOKS.c.id, BOOKS.c.writer_id, BOOKS.c.editor_id) == books
    pages = [(book, number) for book in (20, 21, 22) for number in range(7)]
    assert await all_of(library, PAGES.c.book_id, PAGES.c.number) == pages
    assert await all_of(library, NOTES.c.id) == [(20,), (21,), (22,)]
    assert await all_of(library, LOANS.c.id) == [(20,), (21,), (22,)]


async def test_row_of_another_that_refers_without_a_rule_forbids_it(library: Database) -> None:
    async with library.transaction() as db:
        await db.execute(insert(LOANS).values(id=7, writer_id=HIS, book_id=11))
    before = await all_of(library, BOOKS.c.id)
    async with library.reading() as db:
        with pytest.raises(Conflict, match="loans of others"):
            await check_nothing_forbids(db, WRITERS, WRITERS.c.id == HERS)
    # One that comes later stops it, and nothing of the row that it refers to is half-deleted.
    with pytest.raises(Conflict):
        await Deletion(library, seconds=60).run(WRITERS, [HERS])
    assert (11,) in await all_of(library, BOOKS.c.id)
    assert len(await all_of(library, BOOKS.c.id)) <= len(before)
