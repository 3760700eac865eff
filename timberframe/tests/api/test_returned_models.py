"""A handler that changes or adds a model may return it: the answer shows what is stored."""

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Annotated, Any, cast

import httpx2
import pytest
from fastapi import APIRouter, Depends, FastAPI
from sqlalchemy import func

from specimen import schemas
from specimen.config import settings
from specimen.crud import product_crud, user_crud
from specimen.endpoints import router as specimen_router
from specimen.factories import create_another
from specimen.models import Product
from timberframe.app import create_app
from timberframe.routes import CurrentUser, DbSession, Router, writable
from timberframe.testing import ALICE, lifespan

Writable = Annotated[Product, Depends(writable(product_crud))]

router = Router()


@router.post("/products/{product_id:id}/retire", response_model=schemas.Product)
async def retire(product: Writable) -> Product:
    product.is_active = False
    return product


@router.post("/products/{product_id:id}/retire-all", response_model=list[schemas.Product])
async def retire_all(product: Writable) -> list[Product]:
    product.is_active = False
    return [product]


@router.post("/products/{product_id:id}/shout", response_model=schemas.Product)
async def shout(product: Writable) -> Product:
    product.name = cast(Any, func.upper(Product.name))
    return product


@router.post("/products/made", response_model=schemas.Product, status_code=201)
async def make_product(db: DbSession, maker: CurrentUser) -> Product:
    product = Product(sku="MADE-1", name="Made", price=Decimal("1.00"), currency="EUR")
    product.owner_id = maker.id
    db.add(product)
    return product


@pytest.fixture(scope="module")
def extended() -> FastAPI:
    api = APIRouter()
    for each in (router, specimen_router):
        api.include_router(each)
    return create_app(settings, accounts=user_crud, routers={settings.API_V1_PREFIX: api})


@pytest.fixture
async def alice(extended: FastAPI, database_url: str) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(extended)
    base_url = f"http://testserver{settings.API_V1_PREFIX}"
    async with (
        lifespan(extended),
        httpx2.AsyncClient(transport=transport, base_url=base_url, headers=ALICE.headers) as client,
    ):
        yield client


async def test_changed_model_is_answered_as_it_is_stored(alice: httpx2.AsyncClient) -> None:
    for action in ("retire", "retire-all", "shout"):
        before = await create_another(alice)
        path = f"/products/{before['id']}"
        answer = await alice.post(f"{path}/{action}")
        assert answer.status_code == 200, answer.text
        stored = await alice.get(path)
        assert stored.json()["updated_at"] > before["updated_at"], action
        if action == "retire-all":
            assert answer.json() == [stored.json()]
        else:
            assert answer.json() == stored.json(), action
            assert answer.headers["ETag"] == stored.headers["ETag"] == '"2"', action


async def test_added_model_is_answered_with_what_the_database_gave_it(
    alice: httpx2.AsyncClient,
) -> None:
    answer = await alice.post("/products/made")
    assert answer.status_code == 201, answer.text
    stored = await alice.get(f"/products/{answer.json()['id']}")
    assert answer.json() == stored.json()
    assert answer.headers["ETag"] == stored.headers["ETag"] == '"1"'
