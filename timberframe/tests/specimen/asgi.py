"""Requests as a server hands them over: raw ASGI scopes."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import anyio
import httpx2
from starlette.types import ASGIApp, Message

HOST = ("host", "api.example.com")


class Answer(NamedTuple):
    status: int
    headers: httpx2.Headers
    body: bytes
    chunks_read: int  # before it was sent
    chunks_discarded: int


async def call(
    app: ASGIApp,
    *headers: tuple[str, str],
    method: str = "GET",
    path: str = "/health",
    chunks: Sequence[bytes] = (b"",),
    **scope: Any,
) -> Answer:
    """One request, exactly as given: a client library would mend what is odd about it."""
    unread = list(chunks)
    unread_when_answered = len(chunks)
    sent: list[Message] = []

    async def receive() -> Message:
        if not unread:
            await anyio.sleep_forever()
        return {"type": "http.request", "body": unread.pop(0), "more_body": bool(unread)}

    async def send(message: Message) -> None:
        nonlocal unread_when_answered
        unread_when_answered = len(unread)
        sent.append(message)

    defaults = {"type": "http", "http_version": "1.1", "scheme": "http", "root_path": ""} | {
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
        "query_string": b"",
        "raw_path": path.encode(),
    }
    raw_headers = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    request = {"method": method, "path": path, "headers": raw_headers}
    await app(defaults | request | scope, receive, send)
    body = b"".join(message.get("body", b"") for message in sent[1:])
    start = sent[0]
    return Answer(
        start["status"],
        httpx2.Headers(start["headers"]),
        body,
        len(chunks) - unread_when_answered,
        unread_when_answered - len(unread),
    )
