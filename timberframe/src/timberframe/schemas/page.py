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


class Filtered(BaseModel):
    """The filters of a list, which each resource declares; unknown parameters are refused."""

    model_config = ConfigDict(extra="forbid")


class Sortable(Filtered):
    """The query parameters of a whole list, in an order."""

    sort: str | None = None  # each resource declares its own orders


class Pagination(Sortable):
    """The query parameters of one page of a list."""

    skip: int = Field(
        default=0,
        ge=0,
        le=MAX_SKIP,
        description="Rows to skip. Deep pages are slow; a `cursor` continues from any depth.",
    )
    limit: int = Field(
        default=MAX_LIMIT, ge=1, le=MAX_LIMIT, description="The most rows that a page has"
    )
    cursor: str | None = Field(
        default=None,
        max_length=MAX_CURSOR_LENGTH,
        description="The `next_cursor` of a page; send the same `q` and `sort`, and no `skip`",
        examples=["WzEsNTBd.n3q8dGFh"],
    )
    total: Counting | MISSING = Field(
        default=MISSING,
        description=(
            "How rows are counted: `none`; `bounded`, only as far as that is cheap; or `exact`, "
            "which takes longer the more there are. The default is `bounded`, with a `cursor` "
            f"`none`. What `q` finds is never counted beyond {MAX_HITS - 1}."
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
        description="Rows with all of these words, or words that begin with them; the best first",
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
    size: int = Field(description="The `limit` of the request", examples=[MAX_LIMIT])
    next_cursor: str | None = Field(
        description="The `cursor` of the next page; null on the last one",
        examples=["WzEsNTBd.n3q8dGFh"],
    )
