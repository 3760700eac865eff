"""A limit on the rows of one owner, which holds for concurrent inserts too."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, Integer, func, literal, select
from sqlalchemy.orm import InstrumentedAttribute


@dataclass(frozen=True)
class RowLimit:
    """At most `rows` for each value of `owner`; deleted rows that can be restored count too.

    Each insert holds the lock of the owner, so that two concurrent ones do not both find room for
    the last row. On SQLite there is one writer at a time anyway.
    """

    owner: InstrumentedAttribute[int]
    rows: int

    def lock(self, owner: object) -> str:
        """The name of the lock, which is held until the transaction ends."""
        return f"row limit of {self.owner.class_.__tablename__}: {owner}"

    def used(self, owner: BindParameter[Any]) -> ColumnElement[int]:
        """How many rows `owner` has, counted no further than the limit."""
        counted = select(literal(1, Integer)).select_from(self.owner.class_)
        rows = counted.where(self.owner == owner).limit(self.rows).subquery()
        return select(func.count()).select_from(rows).scalar_subquery()
