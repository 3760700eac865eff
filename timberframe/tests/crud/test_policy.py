"""A resource without a policy does not start; with one, every query obeys it."""

import asyncio
from collections.abc import Callable
from decimal import Decimal
from itertools import count
from typing import Any

import pytest
from sqlalchemy import delete, exists, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute, aliased

from specimen import schemas
from specimen.models import Product
from timberframe.bulk.upsert import Batch, Upsert
from timberframe.crud.base import CRUDBase
from timberframe.crud.policy import (
    SERVER,
    Policy,
    Principal,
    either,
    everybody,
    only,
    owner,
    signed_in,
    superusers,
    with_rights_of,
)
from timberframe.data.base import utc_now
from timberframe.data.session import Database
from timberframe.errors import NotAuthenticated, NotPermitted, WrongDeclaration

ANONYMOUS = None
ALICE = Principal(id=1, is_superuser=False)
BOB = Principal(id=2, is_superuser=False)
ADMIN = Principal(id=3, is_superuser=True)


def test_resource_without_a_policy_does_not_start() -> None:
    class CRUDForgetful(CRUDBase[Product, Any, Any]):
        pass

    with pytest.raises(TypeError, match="CRUDForgetful must state its policy"):
        CRUDForgetful(Product)


def test_resource_with_a_policy_starts() -> None:
    """The control."""

    class CRUDCareful(CRUDBase[Product, Any, Any]):
        policy = Policy(read=everybody, write=superusers)
        schema = schemas.Product

    assert CRUDCareful(Product).model is Product


RULES = {
    everybody: ("true", "true", "true"),
    superusers: ("false", "false", "true"),
    owner(Product.owner_id): ("false", "products.owner_id = :owner_id_1", "true"),
    only(Product.is_active): ("products.is_active",) * 3,
    either(only(Product.is_active), owner(Product.owner_id)): (
        "products.is_active",
        "products.is_active OR products.owner_id = :owner_id_1",
        "true",
    ),
}


def test_rule_becomes_a_condition_of_the_query() -> None:
    for rule, expected in RULES.items():
        assert tuple(str(rule(viewer)) for viewer in (ANONYMOUS, ALICE, ADMIN)) == expected


IS_OWNER = owner(Product.owner_id)

# Who creates a product of alice's, and what they get.
CREATORS: dict[Policy, dict[Principal | None, type[Exception] | None]] = {
    Policy(read=everybody, write=superusers): {
        ANONYMOUS: NotAuthenticated,
        ALICE: NotPermitted,
        ADMIN: None,
        SERVER: None,
    },
    Policy(read=everybody, write=IS_OWNER): {
        ANONYMOUS: NotAuthenticated,
        ALICE: None,
        BOB: NotPermitted,
        ADMIN: None,
    },
    Policy(read=everybody, write=either(only(Product.is_active), IS_OWNER)): {
        ANONYMOUS: NotAuthenticated,
        ALICE: None,
        BOB: NotPermitted,  # it is not active
    },
    Policy(read=everybody, write=everybody): {ANONYMOUS: NotAuthenticated, BOB: None},
    Policy(read=everybody, write=owner(Product.id)): {ALICE: NotPermitted, ADMIN: None},
    Policy(read=everybody, write=superusers, create=signed_in): {
        ANONYMOUS: NotAuthenticated,
        BOB: None,
    },
    Policy(read=everybody, write=superusers, create=everybody): {ANONYMOUS: None, BOB: None},
    Policy(read=everybody, write=everybody, create=superusers): {BOB: NotPermitted, ADMIN: None},
}


async def test_policy_says_who_creates(database: Database) -> None:
    """Whatever a route forgets: a route that is open to all is the caller here."""
    numbers, price = count(), Decimal(1)
    for policy, expected in CREATORS.items():
        namespace = {"policy": policy, "schema": schemas.Product}
        crud: Any = type("CRUDCreated", (CRUDBase,), namespace)(Product)
        got: dict[Principal | None, type[Exception] | None] = {}
        for viewer in expected:
            sku = f"N{next(numbers)}"
            product_in = schemas.ProductCreate(sku=sku, name="Chair", price=price)
            row = {"viewer": viewer, "owner_id": ALICE.id, "is_active": False}
            try:
                await crud.create(database, obj_in=product_in, **row)
                got[viewer] = None
            except (NotAuthenticated, NotPermitted) as refused:
                got[viewer] = type(refused)
        assert got == expected, policy


async def test_rows_in_bulk_are_created_by_whom_the_policy_names(database: Database) -> None:
    class CRUDPublished(CRUDBase[Product, Any, Any]):
        policy = Policy(read=everybody, write=superusers)
        schema = schemas.Product
        natural_key = "sku"

    crud, dialect = CRUDPublished(Product), database.engine.dialect
    with pytest.raises(NotPermitted):
        Upsert(crud, schemas.ProductCreate, ALICE, dialect)
    assert Upsert(crud, schemas.ProductCreate, ADMIN, dialect)


def crud_with(policy: Policy) -> Any:
    namespace = {"policy": policy, "schema": schemas.Product, "natural_key": "sku"}
    return type("CRUDImported", (CRUDBase,), namespace)(Product)


async def import_rows(
    database: Database, crud: Any, viewer: Principal, *rows: schemas.ProductCreate
) -> tuple[Any, list[str]]:
    """How many were created, updated and unchanged, and why others were refused."""
    upsert = Upsert(crud, schemas.ProductCreate, viewer, database.engine.dialect)
    sent = frozenset(("sku", "name", "price", "is_active"))
    batch = Batch.of([upsert.encode(row) for row in rows], sent)
    async with database.transaction() as db:
        done = await upsert.run(db, batch, {"owner_id": ALICE.id})
    return (done.created, done.updated, done.unchanged), [each.reason for each in done.refused]


def product(sku: str, name: str, *, is_active: bool = True) -> schemas.ProductCreate:
    return schemas.ProductCreate(sku=sku, name=name, price=Decimal(1), is_active=is_active)


async def take(database: Database, column: InstrumentedAttribute[str]) -> list[str]:
    """What all products have in this column, by their keys; then there are none any more."""
    async with database.transaction() as db:
        there = list(await db.scalars(select(column).order_by(Product.sku)))
        await db.execute(delete(Product))
    return there


OTHER = aliased(Product)
HAS_A_LAMP = exists().where(OTHER.owner_id == Product.owner_id, OTHER.sku == "LAMP")

# Whether alice may change a row of her own.
WRITERS: dict[Policy, bool] = {
    Policy(read=everybody, write=superusers, create=signed_in): False,
    Policy(read=everybody, write=IS_OWNER): True,
    Policy(read=everybody, write=everybody): True,
    Policy(read=everybody, write=only(Product.is_active), create=signed_in): True,
    Policy(read=everybody, write=only(Product.stock > 0), create=signed_in): False,
    Policy(read=everybody, write=only(Product.description == ""), create=signed_in): False,  # null
    Policy(read=everybody, write=only(HAS_A_LAMP), create=signed_in): False,
}


async def test_import_changes_only_rows_that_may_be_written(database: Database) -> None:
    refusal = ["belongs to a row that you may not change"]
    for policy, may_write in WRITERS.items():
        crud = crud_with(policy)
        new = await import_rows(database, crud, ALICE, product("A", "Chair"))
        assert new == ((1, 0, 0), []), policy
        rows = product("A", "Desk"), product("B", "Sofa")
        again = await import_rows(database, crud, ALICE, *rows)
        assert again == (((1, 1, 0), []) if may_write else ((1, 0, 0), refusal)), policy
        names = ["Desk" if may_write else "Chair", "Sofa"]
        assert await take(database, Product.name) == names, policy


async def test_row_that_its_import_closes_is_not_called_refused(database: Database) -> None:
    crud = crud_with(Policy(read=everybody, write=only(Product.is_active), create=signed_in))
    chair, desk = product("A", "Chair"), product("B", "Desk")
    await import_rows(database, crud, ALICE, chair, desk)
    rows = chair, product("B", "Desk", is_active=False), product("C", "Sofa", is_active=False)
    assert await import_rows(database, crud, ALICE, *rows) == ((1, 1, 1), [])


async def test_rule_that_reads_other_rows_is_about_the_row_that_is_there(
    database: Database,
) -> None:
    """The control: the rule is met as soon as there is a lamp."""
    crud = crud_with(Policy(read=everybody, write=only(HAS_A_LAMP), create=signed_in))
    await import_rows(database, crud, ALICE, product("A", "Chair"), product("LAMP", "Lamp"))
    assert await import_rows(database, crud, ALICE, product("A", "Desk")) == ((0, 1, 0), [])


NOT_CREATED = ["you may not create this row"]

# Of a chair that is active and a desk that is not, both new and alice's: which she may create.
CREATABLE: dict[Policy, str] = {
    # The first, since the first row has alice's number.
    Policy(read=everybody, write=IS_OWNER, create=owner(Product.id)): "",
    Policy(read=everybody, write=IS_OWNER): "AB",
    Policy(read=everybody, write=everybody): "AB",
    Policy(read=everybody, write=IS_OWNER, create=only(Product.is_active)): "A",
    Policy(read=everybody, write=IS_OWNER, create=only(~Product.is_active)): "B",
    Policy(read=everybody, write=IS_OWNER, create=only(Product.name == "Chair")): "A",
    Policy(read=everybody, write=IS_OWNER, create=only(Product.price < Decimal(1))): "",
    Policy(read=everybody, write=IS_OWNER, create=only(Product.price == Decimal(1))): "AB",
    Policy(read=everybody, write=IS_OWNER, create=only(Product.description != "x")): "",  # null
    Policy(read=everybody, write=IS_OWNER, create=only(HAS_A_LAMP)): "",
}


async def test_import_creates_the_rows_that_post_would(database: Database) -> None:
    rows = product("A", "Chair"), product("B", "Desk", is_active=False)
    for policy, expected in CREATABLE.items():
        crud = crud_with(policy)
        created = ""
        for row in rows:
            try:
                async with database.transaction() as db:
                    await crud.create(db, obj_in=row, viewer=ALICE, owner_id=ALICE.id)
                    await db.rollback()
                created += row.sku
            except NotPermitted:
                pass
        assert created == expected, policy
        made = len(expected)
        done = await import_rows(database, crud, ALICE, *rows)
        assert done == ((made, 0, 0), NOT_CREATED * (2 - made)), policy
        assert "".join(await take(database, Product.sku)) == expected, policy


async def test_row_that_is_there_need_not_be_creatable(database: Database) -> None:
    """A change is no creation: PATCH makes the row inactive too."""
    crud = crud_with(Policy(read=everybody, write=IS_OWNER, create=only(Product.is_active)))
    await import_rows(database, crud, ALICE, product("A", "Chair"), product("B", "Desk"))
    closed = [product(sku, "Closed", is_active=False) for sku in "ABC"]
    assert await import_rows(database, crud, ALICE, *closed) == ((0, 2, 0), NOT_CREATED)
    assert await import_rows(database, crud, ALICE, *closed) == ((0, 0, 2), NOT_CREATED)
    async with database.transaction() as db:
        await db.execute(update(Product).values(deleted_at=utc_now()))
    assert await import_rows(database, crud, ALICE, *closed) == ((0, 0, 0), NOT_CREATED * 3)


@pytest.mark.parametrize("engine", ["postgresql"])
async def test_row_that_is_deleted_meanwhile_is_not_created_again(database: Database) -> None:
    crud = crud_with(Policy(read=everybody, write=IS_OWNER, create=only(Product.is_active)))
    await import_rows(database, crud, ALICE, product("A", "Chair"))
    async with database.transaction() as db:
        await db.execute(update(Product).values(deleted_at=utc_now()))
        row = product("A", "Chair", is_active=False)
        importing = asyncio.create_task(import_rows(database, crud, ALICE, row))
        await wait_until_it_blocks(db)
    assert await importing == ((0, 0, 0), NOT_CREATED)


async def wait_until_it_blocks(db: AsyncSession) -> None:
    """Somebody waits for a lock of this transaction."""
    waiting = text("""
        SELECT count(*) FROM pg_locks
        WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))
    """)
    async with asyncio.timeout(10):
        while not await db.scalar(waiting):  # noqa: ASYNC110 - no event tells it
            await asyncio.sleep(0.01)


BRANCHES: tuple[Callable[[Any], Any], ...] = (
    lambda viewer: viewer.id == 1,
    lambda viewer: viewer.id != 1,
    lambda viewer: viewer.id in (1, 2),
)


@pytest.mark.parametrize("branch", BRANCHES)
def test_rule_cannot_branch_on_who_asks(branch: Callable[[Any], Any]) -> None:
    """Its condition is compiled once for all: a branch would open or close the rows to all."""
    somebody = with_rights_of(Principal(1, is_superuser=False))
    with pytest.raises(TypeError, match="not defined"):
        bool(branch(somebody))


def test_rule_of_what_is_no_condition_is_refused_by_name() -> None:
    column: Any = "is_active"
    with pytest.raises(WrongDeclaration, match=r"only\('is_active'\): it takes a condition"):
        only(column)
