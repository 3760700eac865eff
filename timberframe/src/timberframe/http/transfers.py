"""Bodies too large for memory: uploads go to a file, downloads are streamed piece by piece."""

import asyncio
import os
import tempfile
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Hashable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import BinaryIO

import structlog
from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from timberframe.errors import BadRequest, Unavailable
from timberframe.http.exchange import Exchange

log = structlog.get_logger()

DOWNLOAD_SECONDS = 900
STALLED_SECONDS = 30
_PIECE_BYTES = 1024 * 1024
# Disk space left for others, such as a database: this much, or a share of a small disk.
_DISK_RESERVE_BYTES = 256 * 1024 * 1024
_DISK_SHARE = 0.05
_DISK = "Room for files on disk"


class Slots:
    """Limits how many run at once in this process, and how many of them for one `holder`.

    Without a free slot, `Unavailable` tells the client to retry later.
    """

    def __init__(self, count: int, what: str, *, each: int | None = None) -> None:
        self.free = count
        self.what = what
        self.each = each
        self.held: Counter[Hashable] = Counter()

    @contextmanager
    def take(self, holder: Hashable = None) -> Iterator[None]:
        self.check(holder)
        self.free -= 1
        self.held[holder] += 1
        try:
            yield
        finally:
            self.free += 1
            self.held[holder] -= 1
            if not self.held[holder]:
                del self.held[holder]

    def check(self, holder: Hashable = None) -> None:
        """Raise unless a slot is free now."""
        if not self.free or (self.each is not None and self.held[holder] >= self.each):
            raise Unavailable(self.what, retry_after_seconds=5)


@asynccontextmanager
async def uploaded(request: Request) -> AsyncIterator[BinaryIO]:
    """The body as an unnamed temporary file; `RequestLimits` limits its size and its time."""
    with tempfile.TemporaryFile() as file:
        piece = bytearray()
        try:
            async for chunk in request.stream():
                piece += chunk
                if len(piece) >= _PIECE_BYTES:
                    _check_disk(file)
                    await asyncio.to_thread(file.write, piece)
                    piece.clear()
            file.write(piece)
            file.seek(0)
        except ClientDisconnect:
            raise BadRequest("The body ended too early") from None
        except OSError as failed:
            log.warning("upload_not_stored", error=type(failed).__name__, errno=failed.errno)
            raise Unavailable(_DISK) from failed
        yield file


def _check_disk(file: BinaryIO) -> None:
    disk = os.fstatvfs(file.fileno())
    reserve = min(_DISK_RESERVE_BYTES, disk.f_blocks * disk.f_frsize * _DISK_SHARE)
    if disk.f_bavail * disk.f_frsize < reserve:
        raise Unavailable(_DISK)


class Download(StreamingResponse):
    """Streams a file from `pieces`; closes them, and all that they hold, once the client is gone.

    A client that stops reading, or reads for too long, is dropped: the resources open for it would
    stay open forever. A failure before the first piece is an error like any other. After that the
    answer can only be cut short, which tells the client that the file is incomplete.
    """

    def __init__(
        self,
        pieces: AsyncGenerator[bytes],
        slots: Slots,
        *,
        filename: str,
        media_type: str,
        stalled_seconds: float = STALLED_SECONDS,
    ) -> None:
        """`stalled_seconds` is how long a client may take for one piece."""
        headers = {"Content-Disposition": f'attachment; filename="{filename}"'}
        super().__init__(pieces, headers=headers, media_type=media_type)
        self.pieces = pieces
        self.slots = slots
        self.stalled_seconds = stalled_seconds
        self.is_started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.is_head = Exchange.of(scope).is_head
        with self.slots.take():
            try:
                async with aclosing(self.pieces):
                    await super().__call__(scope, receive, send)
            except (TimeoutError, Unavailable) as dropped:
                if not self.is_started:
                    raise
                # One line, not a traceback: the client or the database has gone, and no code is
                # at fault. The server closes a connection whose answer was cut short.
                log.warning("download_dropped", error=type(dropped).__name__)

    async def stream_response(self, send: Send) -> None:
        start = {
            "type": "http.response.start",
            "status": self.status_code,
            "headers": self.raw_headers,
        }
        async with asyncio.timeout(DOWNLOAD_SECONDS):
            piece: bytes | None = await anext(self.pieces, b"")
            self.is_started = True
            await send(start)
            while piece is not None:
                body = {"type": "http.response.body", "body": piece, "more_body": True}
                await asyncio.wait_for(send(body), self.stalled_seconds)
                piece = None if self.is_head else await anext(self.pieces, None)
        await send({"type": "http.response.body", "body": b"", "more_body": False})
