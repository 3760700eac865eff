"""Receivers of webhooks: servers that remember what they get, and answer as a test wants."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Received(NamedTuple):
    headers: dict[str, str]
    body: bytes

    @property
    def event_id(self) -> int:
        """`webhook-id` is `evt_17_1` for the event 17 of the webhook 1."""
        return int(self.headers["webhook-id"].split("_")[1])

    @property
    def type(self) -> str:
        return str(json.loads(self.body)["type"])

    @property
    def data(self) -> Any:
        return json.loads(self.body)["data"]


@dataclass
class Receiver:
    """`statuses` are those of the next answers, then all are 200; `before` runs before each."""

    url: str = ""
    received: list[Received] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    text: bytes = b"ok"
    before: Callable[[Received], Awaitable[None]] | None = None
    most_at_once: int = 0
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    @property
    def event_ids(self) -> list[int]:
        return [each.event_id for each in self.received]

    @property
    def types(self) -> list[str]:
        return [each.type for each in self.received]

    async def until(self, count: int, seconds: float = 30) -> None:
        async with asyncio.timeout(seconds):
            while len(self.received) < count:  # noqa: ASYNC110 - others send
                await asyncio.sleep(0.01)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        self.most_at_once = max(self.most_at_once, len(self._tasks))
        try:
            await self._answer(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the sender was killed
        finally:
            self._tasks.remove(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        pairs = (line.split(": ", 1) for line in head[1:] if line)
        headers = {name.lower(): value for name, value in pairs}
        body = await reader.readexactly(int(headers["content-length"]))
        self.received.append(Received(headers, body))
        if self.before:
            await self.before(self.received[-1])
        status = self.statuses.pop(0) if self.statuses else 200
        head_of_answer = f"HTTP/1.1 {status} X\r\nContent-Length: {len(self.text)}\r\n\r\n"
        writer.write(head_of_answer.encode() + self.text)
        await writer.drain()

    async def end(self) -> None:
        """End the connections that are still open."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    receiver.url = "http://127.0.0.1:{1}/hook?key=quiet".format(*server.sockets[0].getsockname())
    try:
        yield receiver
    finally:
        server.close()
        await receiver.end()
