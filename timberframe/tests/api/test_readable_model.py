"""The row in the path as a model: read by whom the policy lets, and not locked."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI
from sqlalchemy import select

from specimen.config import settings
from specimen.crud import product_crud, user_crud
from specimen.endpoints import router as specimen_router
from specimen.factories import create_another
from specimen.models import Product
from timberframe.app import create_app
from timberframe.data.session import Database
from timberframe.routes import DbRead, DbSession, Router, readable_model, writable
from timberframe.testing import ADMIN, ALICE, BOB, cast, client_of, lifespan

Readable = Annotated[Product, Depends(readable_model(product_crud))]
Writable = Annotated[Product, Depends(writable(product_crud))]

router = Router()


@router.get("/products/{product_id:id}/name")
async def read_name(product: Readable, db: DbSession) -> dict[str, Any]:
    """Show the name, and whether the model is one of the session."""
    return {"name": product.name, "is_in_session": product in db}


async def is_locked(database: Database, product: Product) -> bool:
    row = select(Product.id).where(Product.id == product.id).with_for_update(skip_locked=True)
    async with database.transaction() as other:
        return await other.scalar(row) is None


@router.post("/products/{product_id:id}/readable")
async def take_readable(product: Readable, database: DbRead) -> bool:
    return await is_locked(database, product)


@router.post("/products/{product_id:id}/writable")
async def take_writable(product: Writable, database: DbRead) -> bool:
    return await is_locked(database, product)


@pytest.fixture(scope="module")
def extended() -> FastAPI:
    api = APIRouter()
    for each in (specimen_router, router):
        api.include_router(each)
    return create_app(settings, accounts=user_crud, routers={settings.API_V1_PREFIX: api})


@pytest.fixture
async def app(
    extended: FastAPI, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[FastAPI]:
    monkeypatch.setattr(cast, "app", lambda: extended)
    async with lifespan(extended):
        yield extended


@pytest.mark.usefixtures("app")
async def test_row_is_given_to_whom_the_policy_lets_read_it() -> None:
    async with client_of(ALICE) as alice:
        shown = await create_another(alice)
        hidden = await create_another(alice, is_active=False)
        deleted = await create_another(alice)
        assert (await alice.delete(f"/products/{deleted['id']}")).status_code == 204
    for person, statuses in {
        ALICE: (200, 200, 404, 404),
        ADMIN: (200, 200, 404, 404),
        BOB: (200, 404, 404, 404),
        None: (200, 404, 404, 404),
    }.items():
        async with client_of(person) as client:
            ids = (shown["id"], hidden["id"], deleted["id"], 10**6)
            answers = [await client.get(f"/products/{key}/name") for key in ids]
        assert tuple(answer.status_code for answer in answers) == statuses, person
        assert answers[0].json() == {"name": shown["name"], "is_in_session": True}
        refusals = [answer.json() | {"request_id": ""} for answer in answers[2:]]
        assert refusals[0] == refusals[1]
        if person in (BOB, None):
            assert answers[1].json() | {"request_id": ""} == refusals[1]


@pytest.mark.usefixtures("app")
@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
async def test_row_is_not_locked_unless_it_is_writable() -> None:
    """SQLite has no locks of rows."""
    async with client_of(ALICE) as alice:
        path = f"/products/{(await create_another(alice))['id']}"
        assert (await alice.post(f"{path}/readable")).json() is False
        assert (await alice.post(f"{path}/writable")).json() is True
