"""Events: one for each change, by whatever path, in order, for those who may read the row."""

import asyncio
import json
import random
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import asyncpg
import httpx2
import pytest
from sqlalchemy import Connection, delete, func, select, update

from specimen.crud import product_crud, user_crud
from specimen.factories import CHAIR, add, create, row
from specimen.models import Product, User
from timberframe.crud.events import SCANNED, EventRow, latest_event, read_events
from timberframe.crud.policy import Principal
from timberframe.data import events
from timberframe.data.base import utc_now
from timberframe.data.events import Event, purge_events
from timberframe.data.session import Database
from timberframe.http.resources import listed
from timberframe.testing import ALICE, BOB

SUPERUSER = Principal(99, is_superuser=True)
ALICE_READS = Principal(ALICE.id, is_superuser=False)
BOB_READS = Principal(BOB.id, is_superuser=False)
CSV = {"Content-Type": "text/csv"}


async def told(
    database: Database,
    viewer: Principal | None = SUPERUSER,
    crud: Any = product_crud,
    **filters: Any,
) -> Sequence[EventRow]:
    """All events of products, or of another resource, that `viewer` gets."""
    params = listed(crud).model.model_validate(filters)
    upto = await latest_event(database)
    assert upto <= SCANNED
    return await read_events(crud, database, viewer=viewer, after=0, upto=upto, params=params)


async def types(database: Database, viewer: Principal | None = SUPERUSER, **filters: Any) -> Any:
    return [each.type for each in await told(database, viewer, **filters)]


async def test_each_change_through_the_api_is_an_event(
    alice: httpx2.AsyncClient, database: Database
) -> None:
    product = await create(alice, tags=["oak"], description="“Ä”\n\\")
    path = f"/products/{product['id']}"
    changed = (await alice.patch(path, json={"price": "0.05", "is_active": False})).json()
    await alice.delete(path)
    restored = (await alice.post(f"{path}/restore")).json()
    created, updated, deleted, back = await told(database)
    assert [json.loads(each.content) for each in (created, updated, back)] == [
        *(product, changed, restored)
    ]
    assert json.loads(deleted.content) == restored | {
        "updated_at": json.loads(deleted.content)["updated_at"]
    }
    heads = [json.loads(each.head) for each in (created, updated, deleted, back)]
    assert [each["type"] for each in heads] == [
        *("product.created", "product.updated", "product.deleted", "product.restored")
    ]
    assert all(each["timestamp"].endswith("Z") for each in heads)
    assert [each.id for each in (created, updated, deleted, back)] == sorted(
        {created.id, updated.id, deleted.id, back.id}
    )


async def test_imports_write_events_for_what_they_change(
    alice: httpx2.AsyncClient, database: Database
) -> None:
    await create(alice)
    text = "sku,name,price\r\nCH-1,Armchair,25\r\nDE-1,Desk,100.5\r\n"
    for _ in range(2):  # the second changes nothing
        answer = await alice.post("/products/import", content=text, headers=CSV)
        assert answer.status_code == 200, answer.text
    found = [(each.type, json.loads(each.content)["name"]) for each in await told(database)]
    assert found[0] == ("product.created", "Chair")
    assert sorted(found[1:]) == [("product.created", "Desk"), ("product.updated", "Armchair")]


async def test_dry_run_and_rollback_write_none(
    alice: httpx2.AsyncClient, database: Database
) -> None:
    text = "sku,name,price\r\nDE-1,Desk,100.5\r\n"
    params = {"dry_run": "true"}
    answer = await alice.post("/products/import", content=text, headers=CSV, params=params)
    assert answer.json()["created"] == 1
    assert (await alice.post("/products/", json=CHAIR | {"category": "none"})).status_code == 422
    with pytest.raises(ZeroDivisionError):
        await add_and_fail(database)
    assert await types(database) == []


async def add_and_fail(database: Database) -> None:
    async with database.transaction() as db:
        db.add(Product(**row(1)))
        await db.flush()
        raise ZeroDivisionError


async def test_plain_sql_and_models_are_no_way_around(database: Database) -> None:
    await add(database, [row(1), row(2)])
    async with database.transaction() as db:
        product = await db.get_one(Product, 1)
        product.name = "Bench"
    async with database.transaction() as db:
        await db.execute(update(Product).values(stock=9))
        await db.execute(delete(Product).where(Product.id == 2))
    assert await types(database) == [
        *("product.created", "product.created"),
        *("product.updated", "product.updated", "product.updated", "product.deleted"),
    ]


async def test_update_that_shows_nothing_new_is_no_event(database: Database) -> None:
    await add(database, [row(1)])
    async with database.transaction() as db:
        await db.execute(
            update(Product).values(version=Product.version + 1, updated_at=Product.updated_at)
        )
        await db.execute(update(User).values(last_write_at=utc_now(), updated_at=User.updated_at))
    assert await types(database) == ["product.created"]
    assert "user.updated" not in [each.type for each in await told(database, crud=user_crud)]


async def test_deleted_account_takes_its_products_and_what_was_told_of_it(
    alice: httpx2.AsyncClient, admin: httpx2.AsyncClient, database: Database
) -> None:
    await create(alice)
    await alice.patch("/users/me", json={"full_name": "Alice Liddell"})
    assert (await admin.delete(f"/users/{ALICE.id}")).status_code == 204
    assert await types(database) == ["product.created", "product.deleted"]
    [gone] = [each for each in await told(database, crud=user_crud) if '"id":1,' in each.content]
    assert gone.type == "user.deleted"
    async with database.reading() as db:
        kept = [str(each) for each in await db.scalars(select(Event.data))]
    assert not [each for each in kept if ALICE.email in each or "Liddell" in each]


async def test_reader_gets_only_what_they_may_read_now_and_might_read_then(
    alice: httpx2.AsyncClient, database: Database
) -> None:
    draft = await create(alice, is_active=False, name="Secret")
    assert await types(database, BOB_READS) == []
    assert await types(database, None) == []
    assert await types(database, ALICE_READS) == ["product.created"]
    path = f"/products/{draft['id']}"
    await alice.patch(path, json={"is_active": True, "name": "Published"})
    for reader in (BOB_READS, None):
        [published] = await told(database, reader)
        assert json.loads(published.content)["name"] == "Published"
    await alice.patch(path, json={"is_active": False, "name": "Withdrawn"})
    assert await types(database, BOB_READS) == []
    assert await types(database, ALICE_READS) == ["product.created", *["product.updated"] * 2]
    assert await types(database) == await types(database, ALICE_READS)


async def test_withdrawn_row_stays_hidden_when_it_is_gone_for_good(
    bob: httpx2.AsyncClient, admin: httpx2.AsyncClient, database: Database
) -> None:
    await create(bob, sku="KEPT")
    withdrawn = await create(bob, sku="WITHDRAWN")
    await bob.patch(f"/products/{withdrawn['id']}", json={"is_active": False})
    assert (await admin.delete(f"/users/{BOB.id}")).status_code == 204
    for reader in (ALICE_READS, None):
        seen = await told(database, reader)
        assert [(each.type, json.loads(each.content)["sku"]) for each in seen] == [
            *(("product.created", "KEPT"), ("product.deleted", "KEPT"))
        ]
    created, changed, deleted = (f"product.{kind}" for kind in ("created", "updated", "deleted"))
    assert sorted(await types(database)) == [created, created, deleted, deleted, changed]


async def test_own_account_is_told_to_its_user_alone(
    alice: httpx2.AsyncClient, database: Database
) -> None:
    await alice.patch("/users/me", json={"full_name": "Alice"})
    own, change = await told(database, ALICE_READS, user_crud)
    assert json.loads(change.content) == (await alice.get("/users/me")).json()
    [of_bob] = await told(database, BOB_READS, user_crud)
    assert [own.type, of_bob.type] == ["user.created", "user.created"]
    assert json.loads(of_bob.content)["email"] == BOB.email


async def test_filters_apply_to_the_row_as_it_was(
    alice: httpx2.AsyncClient, database: Database
) -> None:
    product = await create(alice, price="5.00", tags=["oak"])
    await alice.patch(f"/products/{product['id']}", json={"price": "50.00", "stock": 3})
    cases: list[tuple[dict[str, Any], list[str]]] = [
        ({"price__lt": "10"}, ["product.created"]),
        ({"price__gte": "10"}, ["product.updated"]),
        ({"in_stock": "true"}, ["product.updated"]),
        ({"name__prefix": "Ch"}, ["product.created", "product.updated"]),
        ({"tag": ["oak"]}, ["product.created", "product.updated"]),
        ({"tag": ["steel"]}, []),
        ({"description__isnull": "true"}, ["product.created", "product.updated"]),
        ({"created_at__lt": "2020-01-01T00:00:00Z"}, []),
        ({"owner_id": BOB.id}, []),
        ({"is_active": "true", "currency": "EUR"}, ["product.created", "product.updated"]),
    ]
    for filters, wanted in cases:
        assert await types(database, ALICE_READS, **filters) == wanted, filters


async def test_old_events_are_purged(database: Database) -> None:
    await add(database, [row(1), row(2)])
    async with database.transaction() as db:
        assert await purge_events(db, days=1) == 0
        long_ago = utc_now() - timedelta(days=2)
        await db.execute(update(Event).values(created_at=long_ago))
    await add(database, [row(3)])
    async with database.transaction() as db:
        assert await purge_events(db, days=1) > 0
        assert await purge_events(db, days=1) == 0
    assert [json.loads(each.content)["id"] for each in await told(database)] == [3]


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
async def test_event_that_is_no_row_of_the_table_any_more_is_dropped(database: Database) -> None:
    """As after a migration that gives a column another type; SQLite's columns take any."""
    await add(database, [row(1), row(2)])
    async with database.transaction() as db:
        [of_first] = (await db.scalars(select(Event).where(Event.row_id == 1, OF_PRODUCTS))).all()
        of_first.data = of_first.data | {"stock": "many"}
    with pytest.raises(asyncpg.DataError):
        await types(database)

    def record_again(connection: Connection) -> None:
        recorded = events.read_recorded(connection)["products"]
        events.drop_v1(connection, "products")
        events.create_v1(
            connection, "products", *recorded[:1], *recorded[1], is_soft_deletable=True
        )

    async with database.transaction() as db:
        await (await db.connection()).run_sync(record_again)
    assert [json.loads(each.content)["id"] for each in await told(database)] == [2]


OF_PRODUCTS = Event.resource == "products"
WRITERS = 8
CHANGES = 25


class Reader:
    """Gets the events of products, and never looks back."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.found: list[EventRow] = []
        self.after = 0

    async def read_on(self) -> None:
        upto = await latest_event(self.database)
        self.found += await read_events(
            product_crud, self.database, viewer=None, after=self.after, upto=upto
        )
        self.after = upto

    async def follow(self, until: asyncio.Event) -> list[EventRow]:
        while True:
            is_last = until.is_set()
            await self.read_on()
            if is_last:
                return self.found
            await asyncio.sleep(0.001)


async def change_at_random(database: Database, number: int) -> None:
    """Transactions that take longer or shorter, so that they end in another order."""
    choose = random.Random(number)  # noqa: S311 - the same each time
    for _ in range(CHANGES):
        async with database.transaction() as db:
            changed = update(Product).where(Product.id == choose.choice((number, WRITERS + 1)))
            await db.execute(changed.values(stock=Product.stock + 1))
            await asyncio.sleep(choose.random() * 0.004)


async def race(database: Database) -> tuple[list[EventRow], int]:
    """What a reader got, and how many events there are."""
    await add(database, [row(number, stock=0) for number in range(1, WRITERS + 2)])
    ended = asyncio.Event()
    reader = asyncio.create_task(Reader(database).follow(ended))
    await asyncio.gather(*(change_at_random(database, n) for n in range(1, WRITERS + 1)))
    ended.set()
    async with database.reading() as db:
        count = await db.scalar(select(func.count()).select_from(Event)) or 0
    return await reader, count - len(await told(database, crud=user_crud))


async def test_reader_misses_none_and_gets_each_in_order(database: Database) -> None:
    found, count = await race(database)
    assert len(found) == count == WRITERS * CHANGES + WRITERS + 1
    assert [each.id for each in found] == sorted({each.id for each in found})
    stocks: dict[int, list[int]] = {}
    for each in found:
        content = json.loads(each.content)
        stocks.setdefault(content["id"], []).append(content["stock"])
    for seen in stocks.values():
        assert seen == list(range(len(seen)))


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
async def test_reader_gets_a_change_that_is_committed_after_later_ones(database: Database) -> None:
    """The control has ids that are given before the commit, as by an ordinary trigger."""
    await add(database, [row(1), row(2)])
    assert await read_around_a_commit(database) == [2, 1]
    async with database.transaction() as db:
        connection = await db.connection()
        await connection.run_sync(make_ordinary)
    assert await read_around_a_commit(database) == [2]


async def read_around_a_commit(database: Database) -> list[int]:
    """Which rows' events a reader gets: row 1 is changed first, and committed last."""
    reader = Reader(database)
    await reader.read_on()
    before = len(reader.found)
    change = update(Product).values(stock=Product.stock + 1)
    async with database.transaction() as slow:
        await slow.execute(change.where(Product.id == 1))
        async with database.transaction() as fast:
            await fast.execute(change.where(Product.id == 2))
        await reader.read_on()
    await reader.read_on()
    return [json.loads(each.content)["id"] for each in reader.found[before:]]


def make_ordinary(connection: Any) -> None:
    [recorded] = [e for t, e in events.read_recorded(connection).items() if t == "products"]
    statements: list[str] = []

    class Recorder:
        dialect, execute = connection.dialect, connection.execute

        def exec_driver_sql(self, statement: str) -> None:
            statements.append(statement)

    recorder: Any = Recorder()
    events.drop_v1(connection, "products")
    events.create_v1(recorder, "products", recorded.name, *recorded.columns, is_soft_deletable=True)
    for statement in statements:
        statement = statement.replace("CONSTRAINT TRIGGER", "TRIGGER")
        statement = statement.replace("DEFERRABLE INITIALLY DEFERRED", "")
        connection.exec_driver_sql(statement.replace("PERFORM pg_advisory_xact_lock", "--"))
