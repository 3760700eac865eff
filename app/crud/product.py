"""Products: inactive ones are hidden from all but their owner and superusers."""

from app import schemas
from app.crud.base import CRUDBase
from app.crud.filters import EQUALITY, RANGE
from app.crud.policy import Policy, either, only, owner
from app.crud.search import Search
from app.models import Product
from app.schemas import ProductCreate, ProductUpdate


class CRUDProduct(CRUDBase[Product, ProductCreate, ProductUpdate]):
    policy = Policy(
        read=either(only(Product.is_active), owner(Product.owner_id)),
        write=owner(Product.owner_id),
    )
    schema = schemas.Product
    filters = {
        Product.sku: (*EQUALITY, "prefix"),
        Product.name: ("eq", "prefix"),
        Product.description: ("isnull",),
        Product.price: RANGE,
        Product.currency: EQUALITY,
        Product.stock: RANGE,
        Product.is_active: ("eq",),
        Product.owner_id: EQUALITY,
        Product.created_at: RANGE,
    }
    search = Search(Product, Product.sku, Product.name, Product.description)
    natural_key = "sku"
    sorted_by = (Product.sku, Product.name, Product.price, Product.created_at)


product_crud = CRUDProduct(Product)
