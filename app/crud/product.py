"""Products: inactive ones are hidden from all but their owner and superusers."""

from sqlalchemy import ColumnExpressionArgument, or_, true

from app.crud.base import CRUDBase
from app.crud.search import Search
from app.models import Product, User
from app.schemas import ProductCreate, ProductUpdate


class CRUDProduct(CRUDBase[Product, ProductCreate, ProductUpdate]):
    searched = (Product.sku, Product.name, Product.description)
    search = Search(Product, Product.sku, Product.name, Product.description)

    def readable(self, viewer: User | None) -> ColumnExpressionArgument[bool]:
        if viewer is None:
            return Product.is_active
        return (
            true() if viewer.is_superuser else or_(Product.is_active, Product.owner_id == viewer.id)
        )


product_crud = CRUDProduct(Product)
