"""Products, and what happens to the users who own them."""

from decimal import Decimal
from typing import Any

import httpx2
import pytest
from sqlalchemy import update
from timberframe.crud import UnitOfWork
from timberframe.data.session import Database
from timberframe.testing import ALICE, BOB

from app.crud import product_crud, user_crud
from app.crud.base import CRUDBase
from app.models import Product, User
from tests.factories.products import create
from tests.factories.users import KATE, can_sign_in, sign_up


async def test_deleted_user_is_gone_with_their_products(
    admin: httpx2.AsyncClient, alice: httpx2.AsyncClient, bob: httpx2.AsyncClient
) -> None:
    mine, other = await create(alice), await create(bob, sku="B")
    assert (await admin.delete(f"/users/{ALICE.id}")).status_code == 204
    assert (await admin.get(f"/products/{mine['id']}")).status_code == 404
    assert [p["id"] for p in (await admin.get("/products/")).json()["items"]] == [other["id"]]


async def test_key_of_a_deleted_product_is_never_given_out_again(bob: httpx2.AsyncClient) -> None:
    for number in range(3):
        product = await create(bob)
        assert product["id"] == 1 + number
        assert (await bob.delete(f"/products/{product['id']}")).status_code == 204


async def test_base_of_the_project_is_that_of_users_too(
    client: httpx2.AsyncClient, alice: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An override there reaches the frame's method, which for users hashes the password."""
    created: list[object] = []

    async def noting_create(self: CRUDBase[Any, Any, Any], db: UnitOfWork, **arguments: Any) -> Any:
        created.append(self)
        return await super(CRUDBase, self).create(db, **arguments)

    monkeypatch.setattr(CRUDBase, "create", noting_create, raising=False)
    await sign_up(client)
    assert await can_sign_in(client, "kate", KATE["password"])
    await create(alice)
    assert created == [user_crud, product_crud]


FAREWELLS: tuple[tuple[str, Any], ...] = (
    ("PATCH", {"json": {"is_active": False}}),
    ("PATCH", {"json": {"is_superuser": False}}),
    ("DELETE", {}),
)


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
async def test_farewell_does_not_wait_for_rows_that_a_superuser_is_writing(
    admin: httpx2.AsyncClient, database: Database
) -> None:
    """Their foreign key locks the key of the superuser. SQLite has one writer: there, it waits."""
    demote, bob = {"is_superuser": False}, f"/users/{BOB.id}"
    for method, body in FAREWELLS:
        async with database.transaction() as db:
            await db.execute(update(User).where(User.id == ALICE.id).values(is_superuser=True))
        async with database.transaction() as db:
            chair = {"sku": "CH-1", "name": "Chair", "price": Decimal(1), "currency": "EUR"}
            db.add(Product(**chair, stock=0, is_active=True, owner_id=ALICE.id))
            await db.flush()
            assert (await admin.request(method, bob, **body)).status_code in (200, 204)
            assert (await admin.patch(f"/users/{ALICE.id}", json=demote)).status_code == 200
            await db.rollback()
