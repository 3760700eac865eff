"""What a database's URL asks for is done."""

import asyncio

import pytest

from app.core.errors import Unavailable
from app.db.session import Database

SSL_REQUEST = bytes.fromhex("0000000804d2162f")


async def what_is_sent_without_tls(sslmode: str) -> bytes:
    """To a server that refuses TLS, as PostgreSQL's protocol has it."""
    sent = b""

    async def refuse_tls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        while chunk := await reader.read(1024):
            sent += chunk
            if chunk != SSL_REQUEST:
                break
            writer.write(b"N")
        writer.close()

    server = await asyncio.start_server(refuse_tls, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        url = f"postgresql+asyncpg://u:canary@127.0.0.1:{port}/myapi?sslmode={sslmode}"
        database = Database(url)
        with pytest.raises(Unavailable):
            await database.check()
        await database.dispose()
    return sent


@pytest.mark.parametrize("sslmode", ["require", "verify-full"])
async def test_nothing_goes_past_tls_that_is_required(sslmode: str) -> None:
    assert await what_is_sent_without_tls(sslmode) in (SSL_REQUEST, b"")


async def test_something_goes_where_tls_is_not_required() -> None:
    assert b"user\0u\0" in await what_is_sent_without_tls("prefer")
