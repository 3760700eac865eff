from timberframe.schemas import Message, Page, Problem
from timberframe.schemas.bulk import ImportParams, ImportReport, RowError
from timberframe.schemas.token import LoginForm, Token
from timberframe.schemas.webhook import (
    NewWebhook,
    Webhook,
    WebhookCreate,
    WebhookDelivery,
    WebhookDeliveryList,
    WebhookList,
    WebhookSecret,
    WebhookUpdate,
)

from app.schemas.category import (
    Category,
    CategoryCount,
    CategoryCounts,
    CategoryCreate,
    CategoryList,
    CategoryUpdate,
)
from app.schemas.product import Product, ProductCreate, ProductList, ProductUpdate
from app.schemas.stock_movement import (
    StockMovement,
    StockMovementCreate,
    StockMovementList,
)
from app.schemas.user import User, UserAdminUpdate, UserCreate, UserList, UserUpdate

__all__ = [
    "Category",
    "CategoryCount",
    "CategoryCounts",
    "CategoryCreate",
    "CategoryList",
    "CategoryUpdate",
    "ImportParams",
    "ImportReport",
    "LoginForm",
    "Message",
    "NewWebhook",
    "Page",
    "Problem",
    "Product",
    "ProductCreate",
    "ProductList",
    "ProductUpdate",
    "RowError",
    "StockMovement",
    "StockMovementCreate",
    "StockMovementList",
    "Token",
    "User",
    "UserAdminUpdate",
    "UserCreate",
    "UserList",
    "UserUpdate",
    "Webhook",
    "WebhookCreate",
    "WebhookDelivery",
    "WebhookDeliveryList",
    "WebhookList",
    "WebhookSecret",
    "WebhookUpdate",
]
