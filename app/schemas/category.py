"""Categories: what comes in, and what goes out."""

from pydantic import MISSING, BaseModel, Field
from timberframe.schemas import InputModel, OutputModel, Page
from timberframe.schemas.fields import CreatedAt, Line, RowId, Slug, UpdatedAt


class CategoryCreate(InputModel):
    slug: Slug
    name: Line
    parent: Slug | None = None


class CategoryUpdate(InputModel):
    """Without the slug, which products and links hold."""

    name: Line | MISSING = MISSING
    parent: Slug | None | MISSING = MISSING


class Category(OutputModel):
    id: RowId
    slug: str = Field(description="Names it in products and links", examples=["chairs"])
    name: str = Field(description="As people read it", examples=["Chairs"])
    parent: str | None = Field(
        description="The slug of the category above; null at the top", examples=["furniture"]
    )
    created_at: CreatedAt
    updated_at: UpdatedAt


class CategoryList(Page[Category]):
    pass


class CategoryCount(BaseModel):
    category: str = Field(description="The slug of the category", examples=["chairs"])
    products: int = Field(
        description="Those that everybody may see, here and in all categories below", examples=[12]
    )


class CategoryCounts(BaseModel):
    items: list[CategoryCount] = Field(description="All categories that have products")
