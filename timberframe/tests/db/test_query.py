"""Queries on the driver itself: every value that they need is given, or they are not run."""

from typing import Any

import pytest
from sqlalchemy import event, literal, literal_column, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import asyncpg
from sqlalchemy.engine.interfaces import CacheStats

from specimen.queries import connections_of, sum_of_two
from timberframe.data.query import Queries
from timberframe.data.session import Database, open_database
from timberframe.testing import database_options


async def test_missing_value_is_no_null_and_takes_no_connection(database: Database) -> None:
    taken = connections_of(database)
    with pytest.raises(KeyError, match="a"):
        await database.fetch("sum", sum_of_two, {"b": 1})
    assert not taken
    for values, expected in (({"a": 1}, 6), ({"a": 1, "b": 1}, 5), ({"a": None}, None)):
        assert (await database.fetch("sum", sum_of_two, values))[0][0] == expected
    # SQLite's short reads have a connection of their own.
    assert len(taken) == (3 if database.engine.dialect.name == "postgresql" else 0)


def test_shape_that_forgets_a_part_is_noticed() -> None:
    """The control of a proof that all tests make: see `shapes_say_all`."""
    queries = Queries(postgresql.dialect())  # type: ignore[no-untyped-call]  # SQLAlchemy's
    queries.get("forgetful", lambda: select(literal_column("1")))
    with pytest.raises(AssertionError, match="does not say all"):
        queries.get("forgetful", lambda: select(literal_column("2")))


def test_query_of_the_kit_is_that_of_another_database_only_if_all_is_the_same() -> None:
    """The values in it too, though SQLAlchemy would compile the same for others."""
    dialects = asyncpg.dialect(), asyncpg.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy's
    queries = [Queries(each) for each in dialects]
    one, other = (each.get("one", lambda: select(literal(1))) for each in queries)
    assert one is other
    two = queries[0].get("two", lambda: select(literal(2)))
    true = queries[0].get("true", lambda: select(literal(True)))
    assert [each.arguments({}) for each in (one, two, true)] == [[1], [2], [True]]


@pytest.mark.usefixtures("database_url")
async def test_statement_of_a_session_is_compiled_for_the_first_database_alone() -> None:
    found = []

    def note(connection: Any, cursor: Any, sql: str, values: Any, context: Any, *rest: Any) -> None:
        if "of_this_test" in sql:
            found.append(context.cache_hit)

    for value in ("one", "two"):
        async with open_database(database_options()) as database, database.transaction() as db:
            event.listen(database.engine.sync_engine, "before_cursor_execute", note)
            assert await db.scalar(select(literal(value).label("of_this_test"))) == value
    assert found == [CacheStats.CACHE_MISS, CacheStats.CACHE_HIT]
