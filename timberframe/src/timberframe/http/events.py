"""Live events: the changes of a resource as server-sent events, one stream a client.

A stream asks the database for what its client may read whenever there are new events, so it holds
no queue and no connection, and it resumes after any event that is kept: in another process too.
"""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Hashable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import structlog
from fastapi import Depends, Header, Request
from fastapi.sse import EventSourceResponse, format_sse_event
from pydantic import WithJsonSchema
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.elements import False_
from starlette.types import Receive, Scope, Send

from timberframe.accounts import Accounts
from timberframe.crud.base import CRUDBase
from timberframe.crud.events import SCANNED, first_and_last, latest_event, read_events
from timberframe.crud.policy import Principal
from timberframe.data.base import MAX_ID
from timberframe.data.events import Event
from timberframe.data.session import Database
from timberframe.data.waking import open_wake
from timberframe.errors import (
    AppError,
    NotAuthenticated,
    NotPermitted,
    Unavailable,
    WrongDeclaration,
)
from timberframe.http.dependencies import OptionalUser, accounts_of
from timberframe.http.exchange import Exchange
from timberframe.http.problems import problems
from timberframe.http.resources import followed_params
from timberframe.http.sign_in import client_address
from timberframe.http.transfers import STALLED_SECONDS, Slots
from timberframe.schemas.page import Filtered
from timberframe.security.tokens import Tokens
from timberframe.settings import Settings

HEARTBEAT_SECONDS = 15  # proxies close what is silent for longer, most after 30 or 60
RIGHTS_SECONDS = 2  # after which a lost account or right ends a stream
GATHERING_SECONDS = 0.1  # between two looks at the table, however much is written
RETRY_MILLISECONDS = 1000  # for which a client waits before it connects again
LOOK_SECONDS = 5  # in case a notification was lost
READS_AT_ONCE = 2  # of all streams of a process: requests come first

_STREAM: dict[str, Any] = {
    "content": {
        "text/event-stream": {
            "schema": {
                "type": "object",
                "properties": {
                    "id": {"type": "string", "pattern": "^[0-9]+$"},
                    "event": {"type": "string"},
                    "data": {"type": "string", "contentMediaType": "application/json"},
                    "retry": {"type": "integer"},
                },
            }
        }
    },
    "description": "Events as they happen, each with its `id`, its type and the row as it is shown",
}
EVENT_RESPONSES: dict[int | str, dict[str, Any]] = {200: _STREAM, **problems(Unavailable)}

# A proxy that compresses a stream, or collects some of it first, would hold events back.
_HEADERS = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"}
_LAST_ID = {"type": "integer", "minimum": 0, "maximum": MAX_ID, "examples": [1200]}  # never null

T = TypeVar("T")

log = structlog.get_logger()


class SharedRead:
    """A query that runs or waits for its turn, and how many streams wait for it."""

    task: asyncio.Task[bytes]
    readers = 0


class EventStreams:
    """The streams of one process: how many there are, and what wakes them."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self.slots = Slots(
            settings.MAX_EVENT_STREAMS,
            "Another live stream",
            each=settings.MAX_EVENT_STREAMS_PER_CLIENT,
        )
        self.closing = asyncio.Event()
        self.latest = 0
        self.restores = 0  # how often the database had fewer events than before
        self.database = database
        self._changed = asyncio.Event()
        self._open = 0
        self._watching: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._turns = asyncio.Semaphore(READS_AT_ONCE)
        self._reads: dict[Hashable, SharedRead] = {}

    def close(self) -> None:
        """End all streams: the server stops, and clients connect to another or the next."""
        self.closing.set()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Look for new events, as long as one stream or more are open."""
        self._open += 1
        if self._watching is None:
            self._watching = self._start(self._watch())
        try:
            yield
        finally:
            self._open -= 1
            if not self._open:
                self._watching.cancel()
                self._watching = None

    async def end(self) -> None:
        """End what still runs, before the database is closed."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # asyncio logs one that nobody looks at: whoever asked may have left

    async def wait(self, after: int, seconds: float) -> int:
        """The newest event's id: as soon as there are events after `after`, or in some seconds."""
        if self.latest <= after:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._changed.wait()
        return self.latest

    async def read(self, key: Hashable, read: Callable[[], Awaitable[bytes]]) -> bytes:
        """What `read` returns; streams that ask for the same at the same time share one query.

        It is kept for as long as one of them waits: all that a client could ask for, with any
        filters, would fill the memory.
        """
        shared = self._reads.get(key)
        if shared is None:
            shared = self._reads[key] = SharedRead()
            shared.task = self._start(self._read_in_turn(shared, read))
        shared.readers += 1
        try:
            # A client that leaves does not cancel it for the others.
            return await asyncio.shield(shared.task)
        finally:
            shared.readers -= 1
            if not shared.readers and self._reads.get(key) is shared:
                del self._reads[key]

    async def _read_in_turn(
        self, shared: SharedRead, read: Callable[[], Awaitable[bytes]]
    ) -> bytes:
        async with self._turns:
            # Clients that connect and leave again must not delay those that stay.
            return await read() if shared.readers else b""

    async def _watch(self) -> None:
        while True:
            try:
                async with open_wake(self.database, Event.__tablename__) as wake:
                    while True:
                        await self._look()
                        await asyncio.sleep(GATHERING_SECONDS)
                        await wake.wait(LOOK_SECONDS)
            except Exception as away:  # whatever it is: without this, all streams would fall silent
                log.warning("event_streams_wait", reason=type(away).__name__)
                await asyncio.sleep(1)

    async def _look(self) -> None:
        latest = await latest_event(self.database)
        if latest < self.latest:
            # A backup, or a standby that lacked the last commits: its next events have ids that
            # clients have seen already. Their streams end, and they are told to begin again.
            self.restores += 1
        if latest != self.latest:
            self.latest = latest
            self._reads.clear()
            self._changed.set()
            self._changed = asyncio.Event()


@dataclass(frozen=True)
class Follower:
    """Who follows a resource, and until when their token is good."""

    viewer: Principal | None
    expires_at: float
    holder: Hashable


class EventStream(EventSourceResponse):
    """The events of one resource for one client, until either side ends it."""

    def __init__(
        self,
        crud: CRUDBase[Any, Any, Any],
        streams: EventStreams,
        accounts: Accounts[Any, Any, Any],
        follower: Follower,
        params: Filtered,
        last_id: int | None,
    ) -> None:
        super().__init__(iter(()), headers=_HEADERS)
        self.crud = crud
        self.streams = streams
        self.database = streams.database
        self.accounts = accounts
        self.follower = follower
        self.params = params
        self.last_id = last_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self.streams.slots.take(self.follower.holder):
            start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
            await send(start)
            if not Exchange.of(scope).is_head:
                try:
                    await self._send_until_over(receive, send)
                except (AppError, TimeoutError, DBAPIError, sqlite3.Error, OSError) as failed:
                    # The client connects again: it gets what it has missed, or is told why not.
                    log.info("event_stream_ended", error=type(failed).__name__)
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_until_over(self, receive: Receive, send: Send) -> None:
        """Send until there is an end on either side; if the server is closing, what there is."""
        if self.streams.closing.is_set():
            await self._send(send)
            return
        waits: tuple[Coroutine[Any, Any, Any], ...] = (
            self._send(send),
            _gone(receive),
            self.streams.closing.wait(),
        )
        with self.streams.watched():
            sending, *_ = tasks = [asyncio.create_task(each) for each in waits]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        if not sending.cancelled():
            sending.result()

    async def _send(self, send: Send) -> None:
        async for piece in self._pieces():
            body = {"type": "http.response.body", "body": piece, "more_body": True}
            async with asyncio.timeout(STALLED_SECONDS):
                await send(body)

    async def _pieces(self) -> AsyncIterator[bytes]:
        restores = self.streams.restores
        first, latest = await first_and_last(self.database)
        after = latest if self.last_id is None else self.last_id
        if after > latest or after < first - 1:
            # What came in between is gone, or the id is of another database.
            after = latest
            yield format_sse_event(event="reset", data_str="{}", id=str(after))
        # An id without data: a client that is cut off before the first event resumes here.
        yield format_sse_event(id=str(after), retry=RETRY_MILLISECONDS)
        sent_at = checked_at = time.monotonic()
        while time.time() < self.follower.expires_at:
            now = time.monotonic()
            if self.follower.viewer and now - checked_at >= RIGHTS_SECONDS:
                await self.accounts.check_rights(self.database.fetch, self.follower.viewer)
                checked_at = now
            if after < latest:
                upto = min(latest, after + SCANNED)
                events = await self._read(after, upto)
                after = upto
                if events:
                    yield events
                    sent_at = now
            if now - sent_at >= HEARTBEAT_SECONDS:
                yield format_sse_event(comment="ping", id=str(after))
                sent_at = now
            if after < latest:
                continue  # a long way back: rights, the token's end and heartbeats count there too
            if self.streams.closing.is_set():
                return
            latest = await self.streams.wait(after, RIGHTS_SECONDS)
            if self.streams.restores != restores:
                return

    async def _read(self, after: int, upto: int) -> bytes:
        viewer = self.follower.viewer
        who = (viewer.id, viewer.is_superuser) if viewer else None
        key = (self.crud, who, self.params.model_dump_json(), after, upto)

        async def read() -> bytes:
            rows = await read_events(
                self.crud,
                self.database,
                viewer=viewer,
                after=after,
                upto=upto,
                params=self.params,
            )
            return b"".join(
                format_sse_event(event=row.type, data_str=row.content, id=str(row.id))
                for row in rows
            )

        return await self.streams.read(key, read)


def followed(crud: CRUDBase[Any, Any, Any]) -> Callable[..., Awaitable[EventStream]]:
    """A stream of the events that the caller may read; the filters of lists apply.

    Raise `WrongDeclaration` unless the crud states `events = True`.
    """
    if not crud.events:
        raise WrongDeclaration(f"{type(crud).__name__} must state events = True to be followed")
    params = followed_params(crud)

    async def get_follower(request: Request, viewer: OptionalUser) -> Follower:
        if isinstance(crud.policy.read(viewer), False_):
            raise NotPermitted if viewer else NotAuthenticated
        if viewer is None:
            return Follower(None, float("inf"), client_address(request))
        tokens: Tokens = request.app.state.tokens
        _, _, token = request.headers["authorization"].partition(" ")
        return Follower(viewer, tokens.expires_at(token.strip()), viewer.id)

    async def get_stream(
        request: Request,
        follower: Annotated[Follower, Depends(get_follower)],
        filters: Annotated[Filtered, Depends(params)],
        last_event_id: Annotated[
            int | None,
            Header(
                ge=0, le=MAX_ID, description="The last event that was received: resume after it"
            ),
            WithJsonSchema(_LAST_ID),
        ] = None,
    ) -> EventStream:
        streams: EventStreams = request.app.state.event_streams
        streams.slots.check(follower.holder)
        return EventStream(crud, streams, accounts_of(request), follower, filters, last_event_id)

    return get_stream


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
