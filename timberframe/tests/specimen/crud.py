"""Who may do what with the specimen's rows, and what its lists accept."""

from typing import Any

from sqlalchemy import ColumnElement, select, update

from specimen import schemas
from specimen.config import settings
from specimen.models import (
    Category,
    Product,
    StockMovement,
    User,
    Webhook,
    WebhookDelivery,
    product_tags,
)
from specimen.schemas import (
    MAX_STOCK,
    CategoryCreate,
    ProductCreate,
    ProductUpdate,
    StockMovementCreate,
    Tag,
    UserAdminUpdate,
    UserCreate,
    UserUpdate,
)
from timberframe.accounts import Accounts
from timberframe.crud import (
    EQUALITY,
    RANGE,
    Condition,
    CRUDBase,
    HasAll,
    Policy,
    Principal,
    RowLimit,
    Search,
    UnitOfWork,
    either,
    everybody,
    only,
    owner,
    superusers,
)
from timberframe.errors import Conflict
from timberframe.results import Created
from timberframe.schemas import webhook
from timberframe.webhooks import WebhookOptions, Webhooks


class CRUDUser(Accounts[User, UserCreate, UserUpdate | UserAdminUpdate]):
    sign_up = UserCreate
    policy = Policy(read=owner(User.id), write=superusers, create=everybody)
    schema = schemas.User
    filters = {
        User.email: (*EQUALITY, "prefix"),
        User.username: (*EQUALITY, "prefix"),
        User.full_name: ("isnull",),
        User.is_active: ("eq",),
        User.is_superuser: ("eq",),
        User.created_at: RANGE,
        User.updated_at: RANGE,
    }
    events = True
    search = Search(User, User.email, User.username, User.full_name)
    sorted_by = (User.email, User.username, User.created_at, User.updated_at)


user_crud = CRUDUser(User)


class CRUDCategory(CRUDBase[Category, CategoryCreate, Any]):
    """What products refer to; no route writes them."""

    policy = Policy(read=everybody, write=superusers)
    schema = schemas.Category


category_crud = CRUDCategory(Category)


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


class CRUDWebhook(Webhooks[Webhook]):
    policy = Policy(read=owner(Webhook.owner_id), write=owner(Webhook.owner_id))
    resources = (product_crud, user_crud)
    accounts = user_crud
    deliveries = WebhookDelivery
    row_limit = RowLimit(Webhook.owner_id, 20)
    filters = {Webhook.is_active: ("eq",), Webhook.owner_id: EQUALITY, Webhook.created_at: RANGE}


webhook_crud = CRUDWebhook(Webhook, WebhookOptions.of(settings))


def of_own_webhooks(viewer: Principal | None) -> ColumnElement[bool]:
    webhooks = select(Webhook.id).where(webhook_crud.policy.read(viewer))
    return WebhookDelivery.webhook_id.in_(webhooks)


class CRUDWebhookDelivery(CRUDBase[WebhookDelivery, Any, Any]):
    policy = Policy(read=of_own_webhooks, write=of_own_webhooks)
    schema = webhook.WebhookDelivery
    filters = {
        WebhookDelivery.status: EQUALITY,
        WebhookDelivery.type: EQUALITY,
        WebhookDelivery.created_at: RANGE,
    }


webhook_delivery_crud = CRUDWebhookDelivery(WebhookDelivery)
