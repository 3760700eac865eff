"""Queries on the driver itself: every value that they need is given, or they are not run."""

import pytest
from sqlalchemy import literal_column, select
from sqlalchemy.dialects import postgresql

from specimen.queries import connections_of, sum_of_two
from timberframe.data.query import Queries
from timberframe.data.session import Database


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
