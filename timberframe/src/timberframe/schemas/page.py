"""The shape of every list: its parameters and its answer."""

from typing import Generic, Literal, TypeVar

from pydantic import MISSING, BaseModel, ConfigDict, Field

from timberframe.schemas.fields import Line
from timberframe.schemas.models import OutputModel

MAX_LIMIT = 100
MAX_SKIP = 10_000
# A search finds up to this many rows, and counts one fewer: a page is never longer than its total.
MAX_HITS = 5 * MAX_LIMIT
MAX_CURSOR_LENGTH = 4_000

Counting = Literal["none", "bounded", "exact"]
TotalIs = Literal["exact", "at_least", "not_counted"]

# Marks a parameter whose values are sent as `a=1&a=2`, OpenAPI's style `form` with `explode`.
REPEATABLE = "repeatable"

ItemT = TypeVar("ItemT")


class Sortable(BaseModel):
    """The query parameters of a whole list, in an order; unknown ones are refused."""

    model_config = ConfigDict(extra="forbid")

    sort: str | None = None  # each resource declares its own orders


class Pagination(Sortable):
    """The query parameters of one page of a list."""

    skip: int = Field(
        default=0,
        ge=0,
        le=MAX_SKIP,
        description="Rows to pass over. Each costs; a `cursor` goes on from any depth for nothing.",
    )
    limit: int = Field(
        default=MAX_LIMIT, ge=1, le=MAX_LIMIT, description="Rows of one page, at most"
    )
    cursor: str | None = Field(
        default=None,
        max_length=MAX_CURSOR_LENGTH,
        description="The `next_cursor` of a page; `q` and `sort` as there, and no `skip`",
        examples=["WzEsNTBd.n3q8dGFh"],
    )
    total: Counting | MISSING = Field(
        default=MISSING,
        description=(
            "How far rows are counted: `none`, `bounded` to what is cheap, or `exact`, which takes "
            "the longer the more there are. If absent, `bounded`; with a `cursor` `none`. What `q` "
            f"finds is never counted beyond {MAX_HITS - 1}."
        ),
    )

    @property
    def counting(self) -> Counting:
        """Later pages have the total of the first, so they need not count again."""
        if self.total is MISSING:
            return "none" if self.cursor else "bounded"
        return self.total


class CommonQueryParams(Pagination):
    """The query parameters of a list that can be searched; a resource adds its filters."""

    q: Line | None = Field(
        default=None,
        description="Rows that have all these words, or words that begin so; the best first",
        examples=["oak chair"],
    )


class Page(OutputModel, Generic[ItemT]):
    items: list[ItemT] = Field(description="The rows of this page")
    total: int | None = Field(
        description="Rows on all pages; null if they were not counted", examples=[1200]
    )
    total_is: TotalIs = Field(
        description="`at_least`: there are more than `total`, and they were not counted"
    )
    page: int = Field(description="The number of this page, from 1", examples=[1])
    size: int = Field(description="The `limit` that was asked for", examples=[MAX_LIMIT])
    next_cursor: str | None = Field(
        description="The `cursor` of the next page; null on the last one",
        examples=["WzEsNTBd.n3q8dGFh"],
    )
