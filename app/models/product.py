"""Things on offer, each owned by the user who put it there."""

from decimal import Decimal

from sqlalchemy import CheckConstraint, ForeignKey, true
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import NEVER_REUSED, Base, Identified, Money, Timestamped


class Product(Identified, Timestamped, Base):
    __tablename__ = "products"

    sku: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    description: Mapped[str | None]
    price: Mapped[Decimal] = mapped_column("price_cents", Money)
    currency: Mapped[str]
    stock: Mapped[int] = mapped_column(default=0, server_default="0")
    is_active: Mapped[bool] = mapped_column(default=True, server_default=true())
    owner_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)

    __table_args__ = (
        CheckConstraint("price_cents BETWEEN 0 AND 999999999999", name="price"),
        CheckConstraint("stock >= 0", name="stock"),
        NEVER_REUSED,
    )
