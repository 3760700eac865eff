"""Stock movements, in and out, each with the stock that it left."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column
from timberframe.models import Identified, UTCDateTime, utc_now

from app.db.base import Base


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
