"""Stock movements of a product: for its owner."""

from typing import Annotated

from fastapi import Depends, status
from timberframe.errors import Conflict, NotFound, NotPermitted
from timberframe.results import Created, Slice
from timberframe.routes import CurrentUser, DbRead, DbSession, Router, listed, problems
from timberframe.schemas import Pagination

from app import models, schemas
from app.api.v1.endpoints.products import OwnProduct
from app.crud.stock_movement import stock_movement_crud

router = Router()

MovementParams = Annotated[Pagination, Depends(listed(stock_movement_crud))]


@router.get(
    "",
    response_model=schemas.StockMovementList,
    responses=problems(NotPermitted, NotFound),
)
async def read_stock_movements(
    db: DbRead, product: OwnProduct, params: MovementParams, current_user: CurrentUser
) -> Slice[models.StockMovement]:
    """List what came into stock and went out, as the product's owner or a superuser."""
    return await stock_movement_crud.get_multi(
        db,
        params=params,
        viewer=current_user,
        within={models.StockMovement.product_id: product.id},
    )


@router.post(
    "",
    response_model=schemas.StockMovement,
    status_code=status.HTTP_201_CREATED,
    responses=problems(NotPermitted, NotFound, Conflict),
)
async def create_stock_movement(
    db: DbSession,
    product: OwnProduct,
    movement_in: schemas.StockMovementCreate,
    current_user: CurrentUser,
) -> Created[models.StockMovement]:
    """Add to the stock or take from it, as the owner or a superuser; 409 if it is short."""
    return await stock_movement_crud.move(
        db, product=product, obj_in=movement_in, moved_by=current_user
    )
