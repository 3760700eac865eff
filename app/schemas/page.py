"""The shape of every list: what may be asked for, and what is answered."""

from typing import Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from app.schemas.base import Line, OutputModel

MAX_SKIP = 10_000
MAX_CURSOR_LENGTH = 4_000

# Marks a parameter whose values are sent as `a=1&a=2`, OpenAPI's style `form` with `explode`.
REPEATABLE = "repeatable"

ItemT = TypeVar("ItemT")


class Sortable(BaseModel):
    """All of a list, in an order, as query parameters; unknown ones are refused."""

    model_config = ConfigDict(extra="forbid")

    sort: str | None = None


class Pagination(Sortable):
    """A slice of it."""

    skip: int = Field(
        default=0,
        ge=0,
        le=MAX_SKIP,
        description="Rows to pass over. Each costs; a `cursor` goes on from any depth for nothing.",
    )
    limit: int = Field(default=100, ge=1, le=100)
    cursor: str | None = Field(
        default=None,
        max_length=MAX_CURSOR_LENGTH,
        description="The `next_cursor` of a page; `q` and `sort` as there, and no `skip`",
    )


class CommonQueryParams(Pagination):
    """What every list takes that can be searched; a resource adds its filters."""

    q: Line | None = Field(
        default=None,
        description="Rows that have all these words, or words that begin so; the best first",
    )


class Page(OutputModel, Generic[ItemT]):
    """`total` counts all rows that match; `page` is 1-based; `size` is the limit asked for."""

    items: list[ItemT]
    total: int
    total_is: Literal["exact", "at_least"]
    page: int
    size: int
    next_cursor: str | None
