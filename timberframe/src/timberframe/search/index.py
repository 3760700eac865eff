"""The full-text index of a table, kept by the database itself: no write path can miss it.

Both engines split and fold text alike, and index a row's words once per tier: `1chair` is a word of
the first field, `2chair` of the first two, and so on. "All words within the first two fields" is
then a single lookup that reads matching rows only; weights or column filters would scan every row
that has the words anywhere. A vocabulary of the distinct words serves to complete prefixes and to
correct typos.

Migrations call `create_v1` and `drop_v1`, which must never change: a new way becomes a `_v2`. A
migration that alters or drops an indexed column drops the index before and creates it after.
"""

from collections.abc import Callable, Mapping

from timberframe.search.base import SearchIndex
from timberframe.search.postgresql import PostgresqlIndex
from timberframe.search.sqlite import SqliteIndex

INDEXES: Mapping[str, type[SearchIndex]] = {
    "sqlite": SqliteIndex,
    "postgresql": PostgresqlIndex,
}


def is_search_object(name: str | None) -> bool:
    """Whether a table, column or index belongs to a search index, and so to no model."""
    return name is not None and "_search" in name


def triggers_of(table: str) -> dict[str, list[str]]:
    """The triggers that `create_v1` puts on the table itself, by dialect."""
    return {
        dialect: [f"{table}_search_{event}" for event in index.events]
        for dialect, index in INDEXES.items()
    }


def create_v1(execute: Callable[[str], object], dialect: str, table: str, *fields: str) -> None:
    """Index `fields`, in order of weight, for all present and future rows."""
    for statement in INDEXES[dialect].create_v1(table, *fields):
        execute(statement)


def drop_v1(execute: Callable[[str], object], dialect: str, table: str) -> None:
    for statement in INDEXES[dialect].drop_v1(table):
        execute(statement)
