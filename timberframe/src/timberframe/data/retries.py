"""Retry transactions that lost a conflict."""

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from timberframe.errors import Unavailable

T = TypeVar("T")

log = structlog.get_logger()

MAX_ATTEMPTS = 3
_PAUSE_SECONDS = 0.05


class TransactionConflict(Exception):
    """Another transaction won, and this one was rolled back: a retry may succeed."""


async def retrying(attempt: Callable[[], Awaitable[T]]) -> T:
    """Return what `attempt` returns; raise `Unavailable` after `MAX_ATTEMPTS` conflicts.

    `attempt` opens its own unit of work, because it runs again after a conflict.
    """
    for number in itertools.count(1):
        try:
            return await attempt()
        except TransactionConflict as conflict:
            log.warning("transaction_conflict", attempt=number, reason=str(conflict))
            if number >= MAX_ATTEMPTS:
                raise Unavailable("The database") from conflict
        # Random, so that two that collided do not collide again.
        await asyncio.sleep(random.uniform(0, number * _PAUSE_SECONDS))  # noqa: S311 - no secret
    raise AssertionError("unreachable")
