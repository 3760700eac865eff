"""SQLite's reads without a thread: only short ones, and never the only way."""

import sqlite3

import pytest
from sqlalchemy import func, literal, select

from specimen.queries import connections_of, sum_of_two
from timberframe.data.query import AnySelect
from timberframe.data.session import Database
from timberframe.data.short_reads import ShortReads

pytestmark = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)


def count_to(number: int) -> AnySelect:
    numbers = select(literal(1).label("n")).cte(recursive=True)
    further = select(numbers.c.n + 1).where(numbers.c.n < number)
    return select(func.max(numbers.union_all(further).c.n))


async def test_only_short_reads_of_sqlite_run_where_they_are_asked(database: Database) -> None:
    """A long one would hold up all others: it is interrupted, and goes to a thread of its own."""
    taken = connections_of(database)
    for attempt in range(30):  # the steps of one do not count for the next
        rows = await database.fetch("short", lambda: count_to(1_000), {})
        assert rows[0][0] == 1_000, attempt
    assert not taken
    rows = await database.fetch("long", lambda: count_to(100_000), {})
    assert rows[0][0] == 100_000
    assert len(taken) == 1


async def test_few_steps_that_take_long_are_no_short_read(database: Database) -> None:
    """It is time that counts: one step may make the JSON of ten thousand letters."""
    taken = connections_of(database)
    long_text = func.hex(func.zeroblob(500_000))
    numbers = select(literal(1).label("n"), long_text.label("text")).cte(recursive=True)
    further = select(numbers.c.n + 1, long_text).where(numbers.c.n < 50)
    lengths = select(func.sum(func.length(numbers.union_all(further).c.text)))
    assert (await database.fetch("long texts", lambda: lengths, {}))[0][0] == 50_000_000
    assert len(taken) == 1


async def test_read_that_cannot_be_short_is_made_all_the_same(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: ShortReads) -> None:
        raise sqlite3.OperationalError("unable to open database file")

    monkeypatch.setattr(ShortReads, "_connect", fail)
    taken = connections_of(database)
    assert (await database.fetch("sum", sum_of_two, {"a": 1}))[0][0] == 6
    assert len(taken) == 1
