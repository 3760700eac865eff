"""Categories of products: a tree, whose slugs are for good, since products and links hold them."""

from sqlalchemy import BigInteger, Column, ForeignKey, Index, SmallInteger, Table
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, Identified, Text, Timestamped, Versioned


class Category(Identified, Timestamped, Versioned, Base):
    __tablename__ = "categories"

    slug: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    parent: Mapped[str | None] = mapped_column(ForeignKey("categories.slug"))


# One for each order that a list may have; the id makes it total.
for column in (Category.name, Category.parent, Category.created_at, Category.updated_at):
    Index(None, column, Category.id)

# How many products each has, without those below it: kept by the database, see db/catalogue.py.
category_counts = Table(
    "category_counts",
    Base.metadata,
    Column("category", Text, primary_key=True),
    Column("slot", SmallInteger, primary_key=True, autoincrement=False),
    Column("products", BigInteger, nullable=False),
)
