"""Limits on request bodies: their size, their time, and how many are awaited at once."""

import asyncio
from contextlib import suppress
from typing import NamedTuple

from starlette.exceptions import HTTPException
from starlette.types import Message, Receive

from timberframe.errors import AppError, ContentTooLarge, RequestTimeout

MAX_DISCARDED_BYTES = 64 * 1024 * 1024
MAX_DISCARDING_SECONDS = 5


class BodyLimit(NamedTuple):
    bytes: int
    seconds: float


class Bodies:
    """Limits the bodies of all requests of this process.

    Each piece must arrive within `piece_seconds`. At most `most_waiting` requests wait for a piece
    at once: one more times out the oldest wait. Otherwise clients that send nothing could hold
    every connection that this process may have, and no health probe would get through.
    """

    def __init__(self, *, piece_seconds: float, most_waiting: int) -> None:
        self._piece_seconds = piece_seconds
        self._most_waiting = most_waiting
        self._waits: dict[asyncio.Timeout, None] = {}  # oldest first

    def bounded(self, receive: Receive, limit: BodyLimit, length: int | None) -> Receive:
        """Wrap `receive` to enforce `limit` on the body; later messages have no timeout.

        The body ends with its last message, or as soon as it has the declared `length`.
        """
        received_bytes = 0
        must_end_at = 0.0
        is_whole = False

        async def receive_bounded() -> Message:
            nonlocal received_bytes, must_end_at, is_whole
            if is_whole:
                message = await receive()
            else:
                now = asyncio.get_running_loop().time()
                must_end_at = must_end_at or now + limit.seconds
                try:
                    message = await self._wait(receive, min(must_end_at, now + self._piece_seconds))
                except TimeoutError:
                    raise _refusal(RequestTimeout()) from None
            received_bytes += len(message.get("body", b""))
            if received_bytes > limit.bytes:
                raise _refusal(ContentTooLarge(limit.bytes))
            is_whole = is_whole or received_bytes == length or not message.get("more_body")
            return message

        return receive_bounded

    async def discard(self, receive: Receive) -> None:
        """Keep reading for a while after the answer: RFC 9112 section 9.6.

        A client that sends its whole body before it reads would lose the answer when the
        connection closes, and a proxy would answer 502. These waits count towards `most_waiting`
        too: a flood of oversized bodies must not hold all connections either.
        """
        end = asyncio.get_running_loop().time() + MAX_DISCARDING_SECONDS
        left = MAX_DISCARDED_BYTES
        with suppress(TimeoutError):
            while left > 0:
                message = await self._wait(receive, end)
                if not message.get("more_body", False):
                    return
                left -= len(message["body"])

    async def _wait(self, receive: Receive, until: float) -> Message:
        async with asyncio.timeout_at(until) as wait:
            self._waits[wait] = None
            if len(self._waits) > self._most_waiting:
                first = next(iter(self._waits))
                del self._waits[first]
                first.reschedule(0)
            try:
                return await receive()
            finally:
                self._waits.pop(wait, None)


def _refusal(error: AppError) -> HTTPException:
    """FastAPI lets no other kind of exception through while it reads a body."""
    return HTTPException(error.status, error.detail, error.headers)
