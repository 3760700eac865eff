"""All routers of version 1."""

from fastapi import APIRouter
from timberframe.routes import jobs_router

from app.api.v1.endpoints import (
    auth,
    categories,
    notifications,
    products,
    products_bulk,
    stock_movements,
    users,
    webhooks,
)

api_router = APIRouter()
api_router.include_router(auth.router, prefix="/auth", tags=["auth"])
api_router.include_router(users.router, prefix="/users", tags=["users"])
api_router.include_router(products.router, prefix="/products", tags=["products"])
api_router.include_router(products_bulk.router, prefix="/products", tags=["products"])
api_router.include_router(
    stock_movements.router,
    prefix="/products/{product_id:id}/stock-movements",
    tags=["products"],
)
api_router.include_router(notifications.router, prefix="/send-notification", tags=["notifications"])
api_router.include_router(jobs_router, prefix="/jobs", tags=["jobs"])
api_router.include_router(webhooks.router, prefix="/webhooks", tags=["webhooks"])
api_router.include_router(categories.router, prefix="/categories", tags=["categories"])
