"""Doing again what lost against another transaction."""

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from app.core.errors import Unavailable

T = TypeVar("T")

log = structlog.get_logger()

MAX_ATTEMPTS = 3
_PAUSE_SECONDS = 0.05


class TransactionConflict(Exception):
    """Another transaction was faster and nothing of this one was kept: the same may work again."""


async def retrying(attempt: Callable[[], Awaitable[T]]) -> T:
    """What `attempt` returns; it opens its own unit of work, and runs anew after a conflict."""
    for number in itertools.count(1):
        try:
            return await attempt()
        except TransactionConflict as conflict:
            log.warning("transaction_conflict", attempt=number, reason=str(conflict))
            if number >= MAX_ATTEMPTS:
                raise Unavailable("The database") from conflict
        # By chance, so that the two that met do not meet again.
        await asyncio.sleep(random.uniform(0, number * _PAUSE_SECONDS))  # noqa: S311 - no secret
    raise AssertionError("unreachable")
