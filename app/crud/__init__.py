from app.crud.category import category_crud
from app.crud.product import product_crud
from app.crud.stock_movement import stock_movement_crud
from app.crud.user import user_crud
from app.crud.webhook import webhook_crud, webhook_delivery_crud

__all__ = [
    "category_crud",
    "product_crud",
    "stock_movement_crud",
    "user_crud",
    "webhook_crud",
    "webhook_delivery_crud",
]
