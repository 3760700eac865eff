"""Products, each owned by the user who created it."""

from decimal import Decimal

from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, Table, true
from sqlalchemy.orm import Mapped, mapped_column
from timberframe.models import (
    BigInt,
    Money,
    SoftDeletable,
    StringList,
    Text,
    need_triggers,
)

from app.db.base import Base, Record
from app.db.catalogue import TRIGGERS


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

need_triggers(Product.__table__, TRIGGERS)

# Which products have a tag; triggers keep it, see db/catalogue.py.
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
