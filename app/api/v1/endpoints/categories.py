"""Categories of products: open to all readers, written by superusers."""

from typing import Annotated

from fastapi import Depends, status
from timberframe.crud import Principal
from timberframe.errors import AlreadyExists, Conflict, NotFound, NotPermitted
from timberframe.results import Created, Slice, Stored
from timberframe.routes import (
    CurrentUser,
    DbRead,
    DbSession,
    OptionalUser,
    Router,
    creator_of,
    listed,
    problems,
    readable,
    writable,
)
from timberframe.schemas import Pagination

from app import models, schemas
from app.crud.category import category_crud

router = Router()

CategoryParams = Annotated[Pagination, Depends(listed(category_crud))]
CategoryInPath = Annotated[Stored[models.Category], Depends(readable(category_crud))]
CategoryCreator = Annotated[Principal, Depends(creator_of(category_crud))]
CategoryToChange = Annotated[models.Category, Depends(writable(category_crud))]


@router.get("/", response_model=schemas.CategoryList)
async def read_categories(
    db: DbRead, params: CategoryParams, viewer: OptionalUser
) -> Slice[models.Category]:
    """List categories."""
    return await category_crud.get_multi(db, params=params, viewer=viewer)


@router.post(
    "/",
    response_model=schemas.Category,
    status_code=status.HTTP_201_CREATED,
    responses=problems(AlreadyExists, NotPermitted),
)
async def create_category(
    creator: CategoryCreator, db: DbSession, category_in: schemas.CategoryCreate
) -> Created[models.Category]:
    """Create a category, at the top or below its parent; for superusers."""
    return await category_crud.create(db, obj_in=category_in, viewer=creator)


@router.get("/counts")
async def count_products(db: DbRead) -> schemas.CategoryCounts:
    """Count the products that everybody may see, by category, with those of all below it."""
    return await category_crud.count_products(db)


@router.get(
    "/{category_id:id}",
    response_model=schemas.Category,
    responses=problems(NotFound),
)
async def read_category(category: CategoryInPath) -> Stored[models.Category]:
    """Read a category."""
    return category


@router.put(
    "/{category_id:id}",
    response_model=schemas.Category,
    responses=problems(NotPermitted, NotFound),
)
@router.patch(
    "/{category_id:id}",
    response_model=schemas.Category,
    responses=problems(NotPermitted, NotFound),
)
async def update_category(
    db: DbSession,
    category: CategoryToChange,
    category_in: schemas.CategoryUpdate,
    current_user: CurrentUser,
) -> models.Category:
    """Rename a category, or move it with all that is below it; for superusers."""
    return await category_crud.update(db, db_obj=category, obj_in=category_in, viewer=current_user)


@router.delete(
    "/{category_id:id}",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problems(NotPermitted, NotFound, Conflict),
)
async def delete_category(db: DbSession, category: CategoryToChange) -> None:
    """Delete a category that has no products and none below it, for superusers."""
    await category_crud.delete(db, db_obj=category)
