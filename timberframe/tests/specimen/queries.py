"""Queries on the driver, and what they take from the pool."""

from typing import Any

from sqlalchemy import Integer, bindparam, event, literal, select

from timberframe.data.query import AnySelect
from timberframe.data.session import Database


def sum_of_two() -> AnySelect:
    return select(bindparam("a", type_=Integer) + bindparam("b", 2) + literal(3))


def connections_of(database: Database) -> list[Any]:
    """Whatever is taken from the pool from now on."""
    taken: list[Any] = []
    event.listen(database.engine.sync_engine, "checkout", lambda *taking: taken.append(taking))
    return taken
