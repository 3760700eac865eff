"""Bodies too large to hold: a request's into a file, and an answer's a piece at a time."""

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

from app.core.config import settings
from app.core.errors import BadRequest, Unavailable

log = structlog.get_logger()

DOWNLOAD_SECONDS = 900
STALLED_SECONDS = 30
_PIECE_BYTES = 1024 * 1024
# What is left to others on the disk, such as a database: this, or a share of a small disk.
_DISK_RESERVE_BYTES = 256 * 1024 * 1024
_DISK_SHARE = 0.05
_DISK = "Room for files on disk"


class Places:
    """How many may do something at once in this process, and how many of them for one `holder`.

    Whoever finds no place is told to come later.
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
        """Raise unless there is a place now."""
        if not self.free or (self.each is not None and self.held[holder] >= self.each):
            raise Unavailable(self.what, retry_after_seconds=5)


@asynccontextmanager
async def uploaded(request: Request) -> AsyncIterator[BinaryIO]:
    """The body as a file without a name; `Gate` bounds its length and its time."""
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
    """A file from `pieces`, which are closed, with all that they hold, once the client is gone.

    A client that stops reading, or reads for too long, is dropped: what is open for it would stay
    open for ever. What fails before the first piece is an error like any other. After that the
    answer can only be left without its end, which tells the client that the file is not whole.
    """

    def __init__(
        self, pieces: AsyncGenerator[bytes], places: Places, *, filename: str, media_type: str
    ) -> None:
        headers = {"Content-Disposition": f'attachment; filename="{filename}"'}
        super().__init__(pieces, headers=headers, media_type=media_type)
        self.pieces = pieces
        self.places = places
        self.is_started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.is_head = scope["state"]["is_head"]
        with self.places.take():
            try:
                async with aclosing(self.pieces):
                    await super().__call__(scope, receive, send)
            except (TimeoutError, Unavailable) as dropped:
                if not self.is_started:
                    raise
                # One line, not a traceback: the client or the database has gone, and no code is
                # at fault. Servers close a connection whose answer is returned without its end.
                log.warning("download_dropped", error=type(dropped).__name__)

    async def stream_response(self, send: Send) -> None:
        start = {
            "type": "http.response.start",
            "status": self.status_code,
            "headers": self.raw_headers,
        }
        # PostgreSQL ends a transaction that is idle for twice the time of a statement.
        stalled_seconds = min(STALLED_SECONDS, 1.5 * settings.DATABASE_STATEMENT_TIMEOUT_SECONDS)
        async with asyncio.timeout(DOWNLOAD_SECONDS):
            piece: bytes | None = await anext(self.pieces, b"")
            self.is_started = True
            await send(start)
            while piece is not None:
                body = {"type": "http.response.body", "body": piece, "more_body": True}
                await asyncio.wait_for(send(body), stalled_seconds)
                piece = None if self.is_head else await anext(self.pieces, None)
        await send({"type": "http.response.body", "body": b"", "more_body": False})
