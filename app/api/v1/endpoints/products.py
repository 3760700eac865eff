"""Products: open to all readers, written by their owner."""

from typing import Annotated

from fastapi import Depends, status
from timberframe.crud import Principal
from timberframe.errors import AlreadyExists, NotFound, NotPermitted
from timberframe.results import Created, Slice, Stored
from timberframe.routes import (
    EVENT_RESPONSES,
    CurrentUser,
    DbRead,
    DbSession,
    DbWrite,
    EventStream,
    OptionalUser,
    Router,
    creator_of,
    followed,
    listed,
    problems,
    readable,
    writable,
)
from timberframe.schemas import Pagination

from app import models, schemas
from app.crud.product import product_crud

router = Router()

ProductParams = Annotated[Pagination, Depends(listed(product_crud))]
ProductEvents = Annotated[EventStream, Depends(followed(product_crud))]
ProductInPath = Annotated[Stored[models.Product], Depends(readable(product_crud))]
ProductCreator = Annotated[Principal, Depends(creator_of(product_crud))]
OwnProduct = Annotated[models.Product, Depends(writable(product_crud))]
DeletedProduct = Annotated[models.Product, Depends(writable(product_crud, with_deleted=True))]


@router.get("/", response_model=schemas.ProductList)
async def read_products(
    db: DbRead, params: ProductParams, viewer: OptionalUser
) -> Slice[models.Product]:
    """List products; inactive ones only to their owner and superusers."""
    return await product_crud.get_multi(db, params=params, viewer=viewer)


@router.get("/events", responses=EVENT_RESPONSES)
async def follow_products(events: ProductEvents) -> EventStream:
    """Follow products as server-sent events; inactive ones only as their owner or a superuser."""
    return events


@router.post(
    "/",
    response_model=schemas.Product,
    status_code=status.HTTP_201_CREATED,
    responses=problems(AlreadyExists),
)
async def create_product(
    creator: ProductCreator, db: DbWrite, product_in: schemas.ProductCreate
) -> Created[models.Product]:
    """Create a product, owned by the caller."""
    return await product_crud.create(db, obj_in=product_in, viewer=creator, owner_id=creator.id)


@router.get(
    "/{product_id:id}",
    response_model=schemas.Product,
    responses=problems(NotFound),
)
async def read_product(product: ProductInPath) -> Stored[models.Product]:
    """Read a product; an inactive one only as its owner or a superuser."""
    return product


@router.put(
    "/{product_id:id}",
    response_model=schemas.Product,
    responses=problems(AlreadyExists, NotPermitted, NotFound),
)
@router.patch(
    "/{product_id:id}",
    response_model=schemas.Product,
    responses=problems(AlreadyExists, NotPermitted, NotFound),
)
async def update_product(
    db: DbSession,
    product: OwnProduct,
    product_in: schemas.ProductUpdate,
    current_user: CurrentUser,
) -> models.Product:
    """Change any part of a product, as its owner or a superuser."""
    return await product_crud.update(db, db_obj=product, obj_in=product_in, viewer=current_user)


@router.delete(
    "/{product_id:id}",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problems(NotPermitted, NotFound),
)
async def delete_product(db: DbSession, product: OwnProduct) -> None:
    """Delete a product until it is restored, as its owner or a superuser."""
    await product_crud.delete(db, db_obj=product)


@router.post(
    "/{product_id:id}/restore",
    response_model=schemas.Product,
    responses=problems(AlreadyExists, NotPermitted, NotFound),
)
async def restore_product(db: DbSession, product: DeletedProduct) -> models.Product:
    """Bring a deleted product back, as its owner or a superuser; others may have its sku by now."""
    return await product_crud.restore(db, db_obj=product)
