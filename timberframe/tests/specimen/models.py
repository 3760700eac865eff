"""The specimen's tables."""

from datetime import datetime
from decimal import Decimal

from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, Table, true
from sqlalchemy.orm import Mapped, mapped_column

from timberframe.accounts import Account
from timberframe.models import (
    Base,
    BigInt,
    Identified,
    Money,
    Record,
    SoftDeletable,
    StringList,
    Text,
    UTCDateTime,
    need_triggers,
    utc_now,
)
from timberframe.webhooks import Delivery, Subscription


class User(Account):
    __tablename__ = "users"

    full_name: Mapped[str | None]


class Category(Record):
    __tablename__ = "categories"

    slug: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]


class Product(SoftDeletable, Record):
    __tablename__ = "products"

    sku: Mapped[str]
    name: Mapped[str]
    description: Mapped[str | None]
    price: Mapped[Decimal] = mapped_column("price_cents", Money)
    currency: Mapped[str]
    stock: Mapped[int] = mapped_column(default=0, server_default="0")
    is_active: Mapped[bool] = mapped_column(default=True, server_default=true())
    category: Mapped[str | None] = mapped_column(ForeignKey("categories.slug"))
    tags: Mapped[list[str]] = mapped_column(StringList, default=list, server_default="[]")
    owner_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))

    __table_args__ = (
        CheckConstraint("price_cents BETWEEN 0 AND 999999999999", name="price"),
        CheckConstraint("stock >= 0", name="stock"),
    )


is_kept = Product.deleted_at.is_(None)
Index("uq_products_sku", Product.sku, unique=True, sqlite_where=is_kept, postgresql_where=is_kept)
for column in (Product.category, Product.owner_id):
    Index(None, column, Product.id)

# Which products have a tag; triggers keep it.
product_tags = Table(
    "product_tags",
    Base.metadata,
    Column("tag", Text, primary_key=True),
    Column(
        "product_id",
        BigInt,
        ForeignKey("products.id", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
        index=True,
    ),
    sqlite_with_rowid=False,
)
TRIGGERS = ["products_tags_inserted", "products_tags_updated"]
need_triggers(Product.__table__, {"sqlite": TRIGGERS, "postgresql": TRIGGERS})


class StockMovement(Identified, Base):
    __tablename__ = "stock_movements"

    product_id: Mapped[int] = mapped_column(ForeignKey("products.id", ondelete="CASCADE"))
    delta: Mapped[int]
    stock: Mapped[int]
    reason: Mapped[str]
    moved_by_id: Mapped[int | None] = mapped_column(
        ForeignKey("users.id", ondelete="SET NULL"), index=True
    )
    created_at: Mapped[datetime] = mapped_column(UTCDateTime, default=utc_now)


Index(None, StockMovement.product_id, StockMovement.id)


class Webhook(Subscription):
    __tablename__ = "webhooks"

    owner_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))


class WebhookDelivery(Delivery):
    __tablename__ = "webhook_deliveries"

    webhook_id: Mapped[int] = mapped_column(ForeignKey("webhooks.id", ondelete="CASCADE"))


Index(None, Webhook.owner_id, Webhook.id)
