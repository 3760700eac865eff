"""The shape of every list."""

from typing import Generic, TypeVar

from app.schemas.base import OutputModel

ItemT = TypeVar("ItemT")


class Page(OutputModel, Generic[ItemT]):
    """`total` counts all rows that match; `page` is 1-based; `size` is the limit asked for."""

    items: list[ItemT]
    total: int
    page: int
    size: int
