"""An application on both engines: each request goes to both, and their answers must be alike."""

import asyncio
import gzip
import json
import re
from collections.abc import Iterable
from contextlib import AsyncExitStack
from typing import Any, NamedTuple

from fastapi import FastAPI
from sqlalchemy import text
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from timberframe.data.session import Database
from timberframe.testing import subject

# Different each time, or words for people: of two unique values that are taken, SQLite and
# PostgreSQL name another one.
MOMENT_OR_AGE = re.compile(r'\d{4}-\d\d-\d\dT[\d:.]+Z|(?<="oldest_seconds":)[\d.]+')
VARYING_FIELDS = {"request_id", "detail", "next_cursor", "access_token"}
UNAVAILABLE = 503
VARYING_HEADERS = {"x-request-id", "content-length", "link"}


class Answer(NamedTuple):
    messages: list[Message]

    @property
    def status(self) -> int:
        return int(self.messages[0]["status"])

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.messages[0]["headers"]}

    @property
    def facts(self) -> tuple[Any, ...]:
        """All that must be the same on both engines."""
        content = b"".join(message.get("body", b"") for message in self.messages)
        if self.headers.get("content-encoding") == "gzip":
            content = gzip.decompress(content)
        body: Any = MOMENT_OR_AGE.sub("0", content.decode())
        if self.headers.get("content-type", "").endswith(("/json", "+json")):
            body = json.loads(body)
            if isinstance(body, dict):
                body |= dict.fromkeys(VARYING_FIELDS & body.keys())
        if self.headers.get("content-type", "").startswith("text/event-stream"):
            body = ""  # a number that was rolled back is used again on SQLite
        values = self.headers | dict.fromkeys(VARYING_HEADERS & self.headers.keys(), "")
        return self.status, values, body


class Mirror:
    """The ASGI application that answers as on SQLite; `differences` must stay empty."""

    def __init__(self, on_sqlite: FastAPI, on_postgresql: FastAPI) -> None:
        self._apps = on_sqlite, on_postgresql
        self.differences: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        body = await Request(scope, receive).body()
        answers = [await _answer(app, scope, body) for app in self._apps]
        one, other = (answer.facts for answer in answers)
        # A busy machine may answer on one engine alone. And rows are some milliseconds older on
        # one: a time of theirs, as a filter, finds no row of the other.
        is_alike = UNAVAILABLE not in (one[0], other[0]) and b"_at" not in scope["query_string"]
        if is_alike and one != other:
            request = f"{scope['method']} {scope['path']}?{scope['query_string']!r} {body[:500]!r}"
            self.differences.append(f"{request}\n{one}\n{other}")
        if scope["method"] == "POST":
            await _take_same_ids(*(app.state.database for app in self._apps))
        for message in answers[0].messages:
            await send(message)

    async def _live(self, receive: Receive, send: Send) -> None:
        async with AsyncExitStack() as stack:
            await receive()
            for app in self._apps:
                await stack.enter_async_context(subject.lifespan(app))
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})


async def _answer(app: FastAPI, scope: Scope, body: bytes) -> Answer:
    messages: list[Message] = []
    requests: Iterable[Message] = iter([{"type": "http.request", "body": body}])

    async def receive() -> Message:
        for request in requests:
            return request
        return await asyncio.Future()  # the client stays until it has the answer

    async def send(message: Message) -> None:
        messages.append(message)

    await app(dict(scope), receive, send)
    return Answer(messages)


async def _take_same_ids(sqlite: Database, postgresql: Database) -> None:
    """Go on with the same ids: an INSERT that fails uses one up on PostgreSQL alone."""
    async with postgresql.reading() as db:
        statement = text(
            "SELECT replace(sequencename, '_id_seq', '') AS name, last_value AS seq"
            " FROM pg_sequences WHERE last_value IS NOT NULL"
        )
        used = [dict(row) for row in (await db.execute(statement)).mappings()]
    async with sqlite.transaction() as db:
        await db.execute(text("DELETE FROM sqlite_sequence"))
        await db.execute(text("INSERT INTO sqlite_sequence VALUES (:name, :seq)"), used)
