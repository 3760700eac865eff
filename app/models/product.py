"""Things on offer, each owned by the user who put it there."""

from decimal import Decimal

from sqlalchemy import CheckConstraint, ForeignKey, Index, true
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import (
    NEVER_REUSED,
    Base,
    Identified,
    Money,
    SoftDeletable,
    Timestamped,
    Versioned,
)


class Product(Identified, Timestamped, Versioned, SoftDeletable, Base):
    __tablename__ = "products"

    sku: Mapped[str]
    name: Mapped[str]
    description: Mapped[str | None]
    price: Mapped[Decimal] = mapped_column("price_cents", Money)
    currency: Mapped[str]
    stock: Mapped[int] = mapped_column(default=0, server_default="0")
    is_active: Mapped[bool] = mapped_column(default=True, server_default=true())
    owner_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))

    __table_args__ = (
        CheckConstraint("price_cents BETWEEN 0 AND 999999999999", name="price"),
        CheckConstraint("stock >= 0", name="stock"),
        NEVER_REUSED,
    )


is_kept = Product.deleted_at.is_(None)
Index("uq_products_sku", Product.sku, unique=True, sqlite_where=is_kept, postgresql_where=is_kept)
# One for each order that a list may have; the id makes it total.
for column in (Product.name, Product.price, Product.created_at, Product.owner_id):
    Index(None, column, Product.id)
