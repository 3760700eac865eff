from app.models.category import Category
from app.models.product import Product
from app.models.stock_movement import StockMovement
from app.models.user import User

__all__ = [
    "Category",
    "Product",
    "StockMovement",
    "User",
]
