"""A TCP proxy before a real server, to take the network away and give it back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.engine import URL, make_url


class Proxy:
    def __init__(self, socket_path: str) -> None:
        self.socket_path = socket_path
        self.port = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._flows = asyncio.Event()
        self._flows.set()
        self._clients: set[asyncio.StreamWriter] = set()

    async def restore(self) -> None:
        self._server = await asyncio.start_server(self._forward, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def hold(self) -> None:
        """Keep connections open and forward nothing, until `release`."""
        self._flows.clear()

    def release(self) -> None:
        self._flows.set()

    async def cut(self) -> None:
        """Refuse new connections and reset those that are open."""
        if self._server:
            self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0.05)  # until the other ends have noticed

    async def send_to_clients(self, data: bytes) -> None:
        """As if the server had sent it."""
        for writer in self._clients:
            writer.write(data)
        await asyncio.sleep(0.05)  # until the other ends have read it

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back_reader, back_writer = await asyncio.open_unix_connection(self.socket_path)
        ends = {writer, back_writer}
        self._writers |= ends
        self._clients.add(writer)
        there, back = self._pipe(reader, back_writer), self._pipe(back_reader, writer)
        await asyncio.gather(there, back)
        self._writers -= ends
        self._clients.discard(writer)

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                await self._flows.wait()
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def proxied(url: str) -> AsyncIterator[tuple[str, Proxy]]:
    """A URL that reaches the same PostgreSQL through a proxy of our own."""
    direct: URL = make_url(url)
    folder = direct.query.get("host")
    target = f"{folder}/.s.PGSQL.{direct.port or 5432}"
    proxy = Proxy(target)
    await proxy.restore()
    through = direct.set(host="127.0.0.1", port=proxy.port, query={})
    yield through.render_as_string(hide_password=False), proxy
    await proxy.cut()
