"""Categories: what comes in, and what goes out."""

from datetime import datetime

from pydantic import MISSING, BaseModel

from app.schemas.base import InputModel, Line, OutputModel, Slug
from app.schemas.page import Page


class CategoryCreate(InputModel):
    slug: Slug
    name: Line
    parent: Slug | None = None


class CategoryUpdate(InputModel):
    """Without the slug, which products and links hold."""

    name: Line | MISSING = MISSING
    parent: Slug | None | MISSING = MISSING


class Category(OutputModel):
    id: int
    slug: str
    name: str
    parent: str | None
    created_at: datetime
    updated_at: datetime


class CategoryList(Page[Category]):
    pass


class CategoryCount(BaseModel):
    """`products` are those that everybody may see, here and in all categories below."""

    category: str
    products: int


class CategoryCounts(BaseModel):
    items: list[CategoryCount]
