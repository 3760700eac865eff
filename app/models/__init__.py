from app.models.category import Category
from app.models.product import Product
from app.models.stock_movement import StockMovement
from app.models.user import User
from app.models.webhook import Webhook, WebhookDelivery

__all__ = [
    "Category",
    "Product",
    "StockMovement",
    "User",
    "Webhook",
    "WebhookDelivery",
]
