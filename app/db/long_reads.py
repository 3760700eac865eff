"""Reads that take long: few at once while others need connections, and none for ever."""

import asyncio
from types import TracebackType
from typing import Self

from sqlalchemy.pool import QueuePool

from app.core.config import settings
from app.core.errors import ReadTooLong

# Looks rather than seconds: where the event loop is late, a statement that has been done for long
# is noticed between two looks.
SHORT_LOOKS = 5
_LOOK_SECONDS = 0.1


class LongReads:
    """How many long reads of this process may keep others from a connection: a quarter of them."""

    def __init__(self) -> None:
        self.free = max(1, settings.DATABASE_POOL_SIZE // 4)


class ReadLimit:
    """Ends what is awaited within it: when its time is over, or when it is in the way of others.

    A statement that is no longer short needs a place in `LongReads`. Without one it goes on as long
    as connections are left in its pool.
    """

    def __init__(self, long_reads: LongReads, pool: QueuePool) -> None:
        self._long_reads = long_reads
        self._pool = pool
        self._has_place = False
        self._looks = 0
        self._refusal: ReadTooLong | None = None

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("reads are limited within a task")
        self._task = task
        self._cancellations = task.cancelling()
        self._loop = asyncio.get_running_loop()
        self._end = self._loop.time() + settings.DATABASE_LIST_TIMEOUT_SECONDS
        self._timer = self._loop.call_later(_LOOK_SECONDS, self._look)
        return self

    def next_statement(self) -> None:
        """Several short ones, with work in between, are not a long one."""
        self._looks = 0

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        if self._has_place:
            self._long_reads.free += 1
        if self._refusal is None:
            return
        # As `asyncio.timeout` does it: somebody else may have cancelled the task as well.
        is_ours_alone = self._task.uncancel() <= self._cancellations
        if is_ours_alone and kind is not None and issubclass(kind, asyncio.CancelledError):
            raise self._refusal from error

    def _look(self) -> None:
        self._looks += 1
        is_long = self._looks >= SHORT_LOOKS
        if is_long and not self._has_place and self._long_reads.free > 0:
            self._long_reads.free -= 1
            self._has_place = True
        is_full = self._pool.checkedout() >= self._pool.size()
        is_in_the_way = is_long and not self._has_place and is_full
        if is_in_the_way or self._loop.time() >= self._end:
            self._refusal = ReadTooLong()
            self._task.cancel()
        else:
            self._timer = self._loop.call_later(_LOOK_SECONDS, self._look)
