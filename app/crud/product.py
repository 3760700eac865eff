"""Products: inactive ones are hidden from all but their owner and superusers."""

from timberframe.crud import (
    EQUALITY,
    RANGE,
    Condition,
    HasAll,
    Policy,
    Search,
    either,
    only,
    owner,
)

from app import schemas
from app.crud.base import CRUDBase
from app.crud.category import Below, category_crud
from app.models import Product
from app.models.product import product_tags
from app.schemas import ProductCreate, ProductUpdate
from app.schemas.product import Tag


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
        Product.updated_at: RANGE,
    }
    search = Search(Product, Product.sku, Product.name, Product.description)
    further_filters = (
        Below("category", "Products in this category or in one below it", Product.category),
        HasAll(
            "tag",
            "Products with all of these tags, each sent by itself: `tag=a&tag=b`",
            list[Tag],
            product_tags.c.tag,
            product_tags.c.product_id,
            Product.id,
        ),
        Condition(
            "in_stock", "`true`: at least one is in stock; `false`: none is", Product.stock > 0
        ),
    )
    references = {Product.category: category_crud}
    natural_key = "sku"
    events = True
    sorted_by = (Product.sku, Product.name, Product.price, Product.created_at, Product.updated_at)


product_crud = CRUDProduct(Product)
