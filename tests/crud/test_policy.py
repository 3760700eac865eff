"""A resource without a policy does not start; with one, every query obeys it."""

from decimal import Decimal
from itertools import count
from typing import Any

import pytest

from app import schemas
from app.core.errors import NotAuthenticated, NotPermitted
from app.crud.base import CRUDBase
from app.crud.policy import (
    SERVER,
    Policy,
    Principal,
    either,
    everybody,
    only,
    owner,
    signed_in,
    superusers,
)
from app.crud.upsert import Upsert
from app.db.session import Database
from app.models import Product

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
                await crud.create(database.write, obj_in=product_in, **row)
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
