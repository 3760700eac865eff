"""Queries on the driver itself: every value that they need is given, or they are not run."""

import sqlite3
from typing import Any

import pytest
from sqlalchemy import Integer, bindparam, event, func, literal, select

from app.db.query import AnySelect
from app.db.session import Database
from app.db.short_reads import ShortReads


def sum_of_two() -> AnySelect:
    return select(bindparam("a", type_=Integer) + bindparam("b", 2) + literal(3))


def connections_of(database: Database) -> list[Any]:
    """Whatever is taken from the pool from now on."""
    taken: list[Any] = []
    event.listen(database.engine.sync_engine, "checkout", lambda *taking: taken.append(taking))
    return taken


async def test_missing_value_is_no_null_and_takes_no_connection(database: Database) -> None:
    taken = connections_of(database)
    with pytest.raises(KeyError, match="a"):
        await database.fetch("sum", sum_of_two, {"b": 1})
    assert not taken
    for values, expected in (({"a": 1}, 6), ({"a": 1, "b": 1}, 5), ({"a": None}, None)):
        assert (await database.fetch("sum", sum_of_two, values))[0][0] == expected
    # SQLite's short reads have a connection of their own.
    assert len(taken) == (3 if database.engine.dialect.name == "postgresql" else 0)


def count_to(number: int) -> AnySelect:
    numbers = select(literal(1).label("n")).cte(recursive=True)
    further = select(numbers.c.n + 1).where(numbers.c.n < number)
    return select(func.max(numbers.union_all(further).c.n))


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
async def test_only_short_reads_of_sqlite_run_where_they_are_asked(database: Database) -> None:
    """A long one would hold up all others: it is interrupted, and goes to a thread of its own."""
    taken = connections_of(database)
    for attempt in range(100):  # the steps of one do not count for the next
        rows = await database.fetch("short", lambda: count_to(1_000), {})
        assert rows[0][0] == 1_000, attempt
    assert not taken
    rows = await database.fetch("long", lambda: count_to(100_000), {})
    assert rows[0][0] == 100_000
    assert len(taken) == 1


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
async def test_read_that_cannot_be_short_is_made_all_the_same(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: ShortReads) -> None:
        raise sqlite3.OperationalError("unable to open database file")

    monkeypatch.setattr(ShortReads, "_connect", fail)
    taken = connections_of(database)
    assert (await database.fetch("sum", sum_of_two, {"a": 1}))[0][0] == 6
    assert len(taken) == 1
