"""Categories of products: a tree. Slugs never change, since products and links hold them."""

from sqlalchemy import BigInteger, Column, ForeignKey, Index, SmallInteger, Table
from sqlalchemy.orm import Mapped, mapped_column
from timberframe.models import Text

from app.db.base import Base, Record


class Category(Record):
    __tablename__ = "categories"

    slug: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    parent: Mapped[str | None] = mapped_column(ForeignKey("categories.slug"))


Index(None, Category.parent, Category.id)

# Products in each category, not counting those below it; triggers keep it, see db/catalogue.py.
category_counts = Table(
    "category_counts",
    Base.metadata,
    Column("category", Text, primary_key=True),
    Column("slot", SmallInteger, primary_key=True, autoincrement=False),
    Column("products", BigInteger, nullable=False),
)
