"""What a database's URL asks for is done, and a SQLite file is its owner's alone."""

import asyncio
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import aiosqlite
import pytest
from sqlalchemy import select, text

from timberframe.data.engine import SqliteConnection
from timberframe.data.session import Database
from timberframe.errors import Unavailable
from timberframe.testing import database_options

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
        url = f"postgresql+asyncpg://u:canary@127.0.0.1:{port}/specimen?sslmode={sslmode}"
        database = Database(database_options().at(url))
        with pytest.raises(Unavailable):
            await database.check()
        await database.dispose()
    return sent


@pytest.mark.parametrize("sslmode", ["require", "verify-full"])
async def test_nothing_goes_past_tls_that_is_required(sslmode: str) -> None:
    assert await what_is_sent_without_tls(sslmode) in (SSL_REQUEST, b"")


async def test_something_goes_where_tls_is_not_required() -> None:
    assert b"user\0u\0" in await what_is_sent_without_tls("prefer")


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def modes(folder: Path) -> dict[str, str]:
    return {path.name: oct(path.stat().st_mode & 0o777) for path in folder.iterdir()}


@pytest.mark.parametrize("reads_first", [False, True])
async def test_sqlite_file_is_created_for_its_owner_alone(
    tmp_path: Path, reads_first: bool
) -> None:
    database = Database(database_options().at(f"sqlite+aiosqlite:///{tmp_path}/new.db"))
    with umask(0o022):
        if reads_first:
            await database.fetch("one", lambda: select(text("1")), {})
        async with database.transaction() as db:
            await db.execute(text("CREATE TABLE t (id INTEGER)"))
        names = ("new.db", "new.db-wal", "new.db-shm")
        assert modes(tmp_path) == dict.fromkeys(names, "0o600")
        await database.dispose()


async def test_sqlite_file_keeps_the_mode_that_it_has(tmp_path: Path) -> None:
    (tmp_path / "old.db").touch()
    (tmp_path / "old.db").chmod(0o640)
    database = Database(database_options().at(f"sqlite+aiosqlite:///{tmp_path}/old.db"))
    async with database.transaction() as db:
        await db.execute(text("CREATE TABLE t (id INTEGER)"))
    assert set(modes(tmp_path).values()) == {"0o640"}
    await database.dispose()


async def test_new_file_is_waited_for_while_another_process_begins_with_it(tmp_path: Path) -> None:
    """Several that start at once all want a write-ahead log; SQLite itself does not wait for it."""
    file = tmp_path / "new.db"
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        with (
            closing(sqlite3.connect(file, timeout=30)) as patient,  # the control
            pytest.raises(sqlite3.OperationalError, match="locked"),
        ):
            patient.execute("PRAGMA journal_mode = WAL")
        assert time.monotonic() - began < 30

        database = Database(database_options().at(f"sqlite+aiosqlite:///{file}"))

        async def write() -> None:
            async with database.transaction() as db:
                await db.execute(text("CREATE TABLE t (id INTEGER)"))

        writing = asyncio.create_task(write())
        await asyncio.wait([writing], timeout=0.2)
        other.rollback()
        await writing
    await database.dispose()


@pytest.mark.parametrize(
    ("kind", "ends"), [(SqliteConnection, True), (aiosqlite.Connection, False)]
)
async def test_connection_that_is_stopped_while_it_is_closed_is_closed(
    kind: type[aiosqlite.Connection], ends: bool
) -> None:
    """The control is aiosqlite's own connection, which waits forever."""
    connection = kind(lambda: sqlite3.connect(":memory:"), iter_chunk_size=64)
    await connection
    closing = asyncio.create_task(connection.close())
    await asyncio.sleep(0)  # it waits for its thread
    connection.stop()
    done, _ = await asyncio.wait([closing], timeout=10 if ends else 0.5)
    assert bool(done) == ends
    closing.cancel()
