"""What reads and writes return: rows as JSON that the database made."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from timberframe.data.base import Base
from timberframe.schemas.page import TotalIs

ModelT = TypeVar("ModelT", bound=Base)


@dataclass
class Stored(Generic[ModelT]):
    """A row as JSON, with its version if the model counts them."""

    content: str
    version: int | None


@dataclass
class Created(Stored[ModelT]):
    """A newly created row."""

    id: int


@dataclass
class Slice(Generic[ModelT]):
    """The content of a `schemas.Page`, and the cursor of the previous page.

    `items` are JSON texts with the separator between them.
    """

    items: str
    total: int | None
    total_is: TotalIs
    page: int
    size: int
    next_cursor: str | None
    previous_cursor: str | None
