"""Things on offer, each owned by the user who put it there."""

from decimal import Decimal

from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, Table, true
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import (
    NEVER_REUSED,
    Base,
    BigInt,
    Identified,
    Money,
    SoftDeletable,
    StringList,
    Text,
    Timestamped,
    Versioned,
)
from app.db.catalogue import TRIGGERS
from app.db.schema_check import need_triggers


class Product(Identified, Timestamped, Versioned, SoftDeletable, Base):
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
        NEVER_REUSED,
    )


is_kept = Product.deleted_at.is_(None)
Index("uq_products_sku", Product.sku, unique=True, sqlite_where=is_kept, postgresql_where=is_kept)
# One for each order that a list may have; the id makes it total.
for column in (
    Product.name,
    Product.price,
    Product.category,
    Product.created_at,
    Product.updated_at,
    Product.owner_id,
):
    Index(None, column, Product.id)

need_triggers(Product.__table__, TRIGGERS)

# Which products have a tag: kept by the database, see db/catalogue.py.
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
