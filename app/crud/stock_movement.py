"""Stock movements: written together with the stock they change, never below zero."""

from typing import Any

from sqlalchemy import ColumnElement, select, update
from timberframe.crud import RANGE, Policy, Principal, UnitOfWork
from timberframe.errors import Conflict
from timberframe.results import Created

from app import schemas
from app.crud.base import CRUDBase
from app.crud.product import product_crud
from app.models import Product, StockMovement
from app.schemas import StockMovementCreate
from app.schemas.product import MAX_STOCK


def of_own_products(viewer: Principal | None) -> ColumnElement[bool]:
    products = select(Product.id).where(product_crud.policy.write(viewer))
    return StockMovement.product_id.in_(products)


class CRUDStockMovement(CRUDBase[StockMovement, StockMovementCreate, Any]):
    policy = Policy(read=of_own_products, write=of_own_products)
    schema = schemas.StockMovement
    filters = {StockMovement.delta: RANGE, StockMovement.created_at: RANGE}

    async def move(
        self,
        db: UnitOfWork,
        *,
        product: Product,
        obj_in: StockMovementCreate,
        moved_by: Principal,
    ) -> Created[StockMovement]:
        """Raise `Conflict` if the stock is short, or would exceed `MAX_STOCK`."""
        stock = Product.stock + obj_in.delta
        # One statement: a concurrent withdrawal waits, and sees what is left.
        moved = (
            update(Product)
            .where(Product.id == product.id, stock.between(0, MAX_STOCK))
            .values(stock=stock, version=Product.version + 1)
            .returning(Product.stock)
            .execution_options(synchronize_session=False)
        )
        left = await db.scalar(moved)
        if left is None:
            raise Conflict(f"The stock of {product.stock} cannot be changed by {obj_in.delta}")
        return await self.create(
            db,
            obj_in=obj_in,
            viewer=moved_by,
            product_id=product.id,
            stock=left,
            moved_by_id=moved_by.id,
        )


stock_movement_crud = CRUDStockMovement(StockMovement)
