"""Statements that are compiled once for all tests, though each test has an engine of its own."""

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import URL, Dialect
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.util import LRUCache

from timberframe.data import engine, query
from timberframe.data.query import AnyStatement, Query

MAX_KEPT = 2_000


class _Compiled(LRUCache[Any, Any]):
    """What SQLAlchemy has compiled, for all dialects of one name: they are configured alike."""

    def get(self, key: Any, default: Any = None) -> Any:
        return super().get(_of_all_engines(key), default)

    def __setitem__(self, key: Any, compiled: Any) -> None:
        super().__setitem__(_of_all_engines(key), compiled)


def _of_all_engines(key: tuple[Any, ...]) -> Hashable:
    dialect, *statement = key
    return (dialect.name, *statement)


@contextmanager
def compiled_once() -> Iterator[None]:
    """Compile a statement again only if it differs from all before, by SQLAlchemy's own cache key.

    Each test would compile its statements for itself otherwise, for a tenth of its time. Two shapes
    with the same statement share a query; a shape alone is never trusted, because it need not say
    what is the same throughout the life of one database.
    """
    compiled, queries = _Compiled(MAX_KEPT), LRUCache[Hashable, Query](MAX_KEPT)

    def create_engine(url: URL, **options: Any) -> AsyncEngine:
        return create_async_engine(url, **options, execution_options={"compiled_cache": compiled})

    def query_of(statement: AnyStatement, dialect: Dialect) -> Query:
        key = _key_of(statement, dialect)
        if key is None:
            return Query(statement, dialect)
        kept = queries.get(key)
        if kept is None:
            kept = queries[key] = Query(statement, dialect)
        return kept

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "create_async_engine", create_engine)
        patch.setattr(query, "Query", query_of)
        yield


def _key_of(statement: AnyStatement, dialect: Dialect) -> Hashable | None:
    """All that a query is made of: unlike SQLAlchemy, it keeps the values in the statement too."""
    key = statement._generate_cache_key()
    if key is None:
        return None
    values = tuple((type(bind.value), bind.value, bind.required) for bind in key.bindparams)
    try:
        hash(values)
    except TypeError:
        return None
    return dialect.name, key.key, values
