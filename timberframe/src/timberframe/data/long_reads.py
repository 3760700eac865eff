"""Limit long reads: few at once while others need connections, and none forever."""

import asyncio
from types import TracebackType
from typing import Self

from sqlalchemy.pool import QueuePool

from timberframe.data.options import DatabaseOptions
from timberframe.errors import ReadTooLong

# After this many checks a statement counts as long. Checks rather than seconds: when the event loop
# lags, a statement that finished long ago is noticed between two checks.
SHORT_CHECKS = 5
_CHECK_SECONDS = 0.1


class LongReads:
    """The slots for long reads in this process: a quarter of the connections."""

    def __init__(self, options: DatabaseOptions) -> None:
        self.free = max(1, options.pool_size // 4)
        self.most_seconds = options.list_timeout


class ReadLimit:
    """Cancels a read with `ReadTooLong` when its time is up or it keeps others from a connection.

    A statement that is no longer short needs a slot in `LongReads`. Without one it may go on as
    long as its pool has connections left.
    """

    def __init__(self, long_reads: LongReads, pool: QueuePool) -> None:
        self._long_reads = long_reads
        self._pool = pool
        self._has_slot = False
        self._checks = 0
        self._refusal: ReadTooLong | None = None

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("reads are limited within a task")
        self._task = task
        self._cancellations = task.cancelling()
        self._loop = asyncio.get_running_loop()
        self._end = self._loop.time() + self._long_reads.most_seconds
        self._timer = self._loop.call_later(_CHECK_SECONDS, self._check)
        return self

    def next_statement(self) -> None:
        """Start counting again: several short statements, with work in between, are not long."""
        self._checks = 0

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        if self._has_slot:
            self._long_reads.free += 1
        if self._refusal is None:
            return
        # As in `asyncio.timeout`: something else may have cancelled the task as well.
        is_ours_alone = self._task.uncancel() <= self._cancellations
        if is_ours_alone and kind is not None and issubclass(kind, asyncio.CancelledError):
            raise self._refusal from error

    def _check(self) -> None:
        self._checks += 1
        is_long = self._checks >= SHORT_CHECKS
        if is_long and not self._has_slot and self._long_reads.free > 0:
            self._long_reads.free -= 1
            self._has_slot = True
        is_full = self._pool.checkedout() >= self._pool.size()
        blocks_others = is_long and not self._has_slot and is_full
        if blocks_others or self._loop.time() >= self._end:
            self._refusal = ReadTooLong()
            self._task.cancel()
        else:
            self._timer = self._loop.call_later(_CHECK_SECONDS, self._check)
