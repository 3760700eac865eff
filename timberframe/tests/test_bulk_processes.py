"""Import and export as they are run: two processes at once, bounded memory, a terminal, Ctrl-C."""

import asyncio
import os
import re
import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import psutil
import pytest
from sqlalchemy import delete, func, insert, select, update

from specimen.factories import add, row
from specimen.models import Product, User
from specimen.terminals import at_terminal
from timberframe.data.session import Database
from timberframe.testing import (
    ALICE,
    BOB,
    Person,
    ServerProcess,
    call_command,
    serving,
)
from timberframe.testing.forked import exit_code

pytestmark = pytest.mark.seconds(4)

HEAD = "sku,name,description,price\r\n"
TEXT = {"Content-Type": "text/csv"}
IMPORT, EXPORT = "/products/import", "/products/export"


def rows(count: int, *, name: str = "Name") -> str:
    return HEAD + "".join(f"S-{n},{name},{'x' * 100},1\r\n" for n in range(count))


async def count(database: Database) -> int:
    async with database.reading() as db:
        return await db.scalar(select(func.count()).select_from(Product)) or 0


@pytest.mark.parametrize("mode", ["all", "skip"])
async def test_two_imports_at_once_make_no_duplicates(
    mode: str, server: ServerProcess, database: Database
) -> None:
    number = 1100  # two batches
    forwards = rows(number).splitlines(keepends=True)
    # Backwards, so that the two lock the same rows in opposite orders.
    files = ["".join(forwards), "".join([forwards[0], *forwards[:0:-1]])]

    async def send(text: str) -> httpx2.Response:
        # A connection each: the two processes take turns at accepting them.
        async with server.client(headers=ALICE.headers | TEXT) as client:
            return await client.post(IMPORT, params={"mode": mode}, content=text)

    answers = await asyncio.gather(*map(send, files * 2))
    assert {answer.status_code for answer in answers} <= {200, 503}
    reports = [answer.json() for answer in answers if answer.status_code == 200]
    assert sum(report["created"] for report in reports) <= number
    answer = await send(files[0])
    assert answer.json()["refused"] == 0
    assert await count(database) == number


async def test_memory_does_not_grow_with_the_file(database_url: str, database: Database) -> None:
    """Held in memory, four times as many rows would take six megabytes more when they are exported,
    and eight when they are imported.
    """
    with serving(DATABASE_URL=database_url) as server:
        worker = psutil.Process(server.process.pid).children(recursive=True)[-1]
        async with server.client(headers=ALICE.headers | TEXT) as client:

            async def export() -> int:
                answer = await client.get(EXPORT, params={"format": "jsonl"})
                assert answer.content.count(b"\n") == await count(database)
                return peak_bytes(worker)

            async def send(count: int) -> int:
                answer = await client.post(IMPORT, content=rows(count))
                assert answer.json()["refused"] == 0, answer.text
                return peak_bytes(worker)

            large = {"description": "-" * 600}
            await add(database, [row(number, sku=f"E-{number}") | large for number in range(2000)])
            few_exported = await export()
            await double(database, "x")
            await double(database, "y")
            exported = await export() - few_exported
            few_imported = await send(2000)
            imported = await send(8000) - few_imported
    assert exported < 3e6
    assert imported < 8e6


async def double(database: Database, suffix: str) -> None:
    """All rows once more, with this at the end of their SKU."""
    others = [column for column in Product.__table__.c if column.name not in ("id", "sku")]
    again = select(Product.sku.concat(suffix), *others)
    async with database.transaction() as db:
        await db.execute(insert(Product).from_select([Product.sku, *others], again))


async def test_rights_lost_during_a_slow_upload_are_lost_and_others_import_meanwhile(
    server: ServerProcess, database: Database
) -> None:
    """The control is the same upload of somebody who keeps their rights."""

    async def send(person: Person, content: str | AsyncIterator[bytes]) -> httpx2.Response:
        async with server.client(headers=person.headers | TEXT) as client:
            return await client.post(IMPORT, content=content)

    async def trickling(sku: str, is_over: asyncio.Event) -> AsyncIterator[bytes]:
        yield HEAD.encode()
        await is_over.wait()
        yield f"{sku},a,,1\r\n".encode()

    for keeps, status in ((True, 200), (False, 401)):
        ends = [asyncio.Event() for _ in range(2)]
        uploads = [
            asyncio.create_task(send(ALICE, trickling(f"A-{number}", end)))
            for number, end in enumerate(ends)
        ]
        answer = await send(BOB, f"{HEAD}B-{status},b,,1\r\n")
        assert answer.status_code == 200, answer.text
        async with database.transaction() as db:
            await db.execute(update(User).where(User.id == ALICE.id).values(is_active=keeps))
            if not keeps:
                await db.execute(delete(Product))
        for end, upload in zip(ends, uploads, strict=True):
            end.set()
            assert (await upload).status_code == status
        assert await count(database) == (3 if keeps else 0)


async def test_stalled_export_is_one_line_of_log_and_no_whole_file(
    database_url: str, database: Database
) -> None:
    """The control is a client that reads on."""
    # More than the buffers of a connection hold, and no words that would be indexed.
    large = {"description": "-" * 3000, "owner_id": ALICE.id}
    async with database.transaction() as db:
        await db.execute(insert(Product), [row(number) | large for number in range(4000)])
    # A client may stall for one and a half times the time of a statement.
    with serving(DATABASE_URL=database_url, DATABASE_STATEMENT_TIMEOUT_SECONDS="1") as server:
        stalled = await asyncio.to_thread(export_slowly, server, stalls=True)
        read_on = await asyncio.to_thread(export_slowly, server, stalls=False)
        server.process.terminate()
        exit_code(server.process, within=60)
        lines = server.log.read_text().splitlines()
    told = [line for line in lines if "serving" not in line and "/health/live" not in line]
    end = b"\r\n0\r\n\r\n"
    assert [body.endswith(end) for body in (stalled, read_on)] == [False, True]
    # Of the first client two lines, and of the other one.
    assert ["download_dropped" in line for line in told] == [True, False, False]


def export_slowly(server: ServerProcess, *, stalls: bool) -> bytes:
    """What a connection gets that reads at once, or only when the server has lost its patience."""
    address = urlsplit(server.url)
    with socket.socket() as connection:
        connection.settimeout(60)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
        connection.connect((address.hostname, address.port))
        connection.sendall(
            b"GET /api/v1/products/export HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )
        deadline = time.monotonic() + 60
        while stalls and "products/export" not in server.log.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        received = bytearray()
        with suppress(ConnectionResetError):
            while piece := connection.recv(2**16):
                received += piece
    return bytes(received)


def peak_bytes(process: psutil.Process) -> int:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def test_import_and_export_are_commands(database_url: str, tmp_path: Path) -> None:
    file = tmp_path / "products.csv"
    file.write_text(rows(1200) + "S-1,Again,,1\r\nA [b]1,Name,,x\r\n")
    refused = call_command("import", str(file), "--as", "alice")
    assert refused.returncode == 1
    assert "1202" in refused.stdout
    assert "is already on line 3" in refused.stdout
    assert "0 created, 0 updated, 0 unchanged, 2 refused" in refused.stdout
    tried = call_command("import", str(file), "--as", "alice", "--mode", "skip", "--dry-run")
    assert "1,200 created, 0 updated, 0 unchanged, 2 refused" in tried.stdout
    taken = call_command("import", str(file), "--as", "alice", "--mode", "skip")
    assert taken.returncode == 1
    assert "1,200 created" in taken.stdout

    out = tmp_path / "out.jsonl"
    exported = call_command("export", str(out))
    assert exported.returncode == 0, exported.stderr
    assert out.read_bytes().count(b"\n") == 1200
    european = tmp_path / "european.csv"
    european.write_text("sku;name;price\r\nE-1;Stuhl;12,50\r\n")
    marks = ("--delimiter", "semicolon", "--decimal", "comma")
    read = call_command("import", str(european), "--as", "alice", "--dry-run", *marks)
    assert "1 created, 0 updated" in read.stdout
    meaningless = call_command("import", str(out), "--as", "alice", *marks)
    assert meaningless.stderr == "specimen: --delimiter and --decimal are only for CSV\n"
    again = call_command("import", str(out), "--as", "alice")
    assert again.returncode == 0
    assert "0 created, 0 updated, 1,200 unchanged, 0 refused" in again.stdout
    assert {path.name for path in tmp_path.iterdir()} >= {"products.csv", "out.jsonl"}
    assert not list(tmp_path.glob(".out*"))


def test_what_commands_cannot_do_is_told_in_one_line(
    empty_database_url: str, tmp_path: Path
) -> None:
    file = tmp_path / "old.csv"
    file.write_text("old")
    unmigrated = call_command("export", str(file))
    assert "specimen migrate" in unmigrated.stderr
    assert file.read_text() == "old"
    unknown = call_command("export", str(tmp_path / "products"))
    assert (
        unknown.stderr
        == "specimen: products does not end with csv or jsonl: --format is required\n"
    )
    for failed in (unmigrated, unknown):
        assert failed.returncode == 1
        assert "Traceback" not in failed.stderr
    assert not list(tmp_path.glob(".old*"))


# By one process, since to import the application takes longer than what is tested. It waits after
# the first batch, or it might end before the interrupt comes. The process that it is forked from
# may have interrupts ignored.
IMPORT_FIRST = """
import signal, sys
from specimen.cli import main
from timberframe.bulk.console import ProgressBars

show = ProgressBars.show

def show_and_wait(bars, what, done, total, *, unit):
    show(bars, what, done, total, unit=unit)
    if what == "Writing" and done == 1000:
        sys.stdin.readline()

ProgressBars.show = show_and_wait
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    main()
except SystemExit as ended:
    input(f"ended with {ended.code}.")
sys.argv[-1] = "skip"
"""


async def test_ctrl_c_in_mode_all_leaves_nothing(
    database_url: str, database: Database, tmp_path: Path
) -> None:
    """The control is mode skip, which keeps what it has done."""
    file = tmp_path / "products.csv"
    file.write_text(rows(3000))  # three batches
    importing = ("import", str(file), "--as", "alice", "--mode", "all")
    settings = {"DATABASE_URL": database_url, "TERM": "xterm"}
    with at_terminal(*importing, before=IMPORT_FIRST, **settings) as (process, ours):

        async def interrupted(end: bytes | None) -> bytes:
            seen = await asyncio.to_thread(read_until, ours, rb"Writing.* 33%")
            assert process.pid
            os.kill(process.pid, signal.SIGINT)
            os.write(ours, b"\n")
            seen += await asyncio.to_thread(read_until, ours, end)
            assert b"Traceback" not in seen
            assert b"rows/s" in seen
            return seen

        assert b"ended with 130." in await interrupted(rb"ended with .*\.")
        assert await count(database) == 0
        os.write(ours, b"\n")
        seen = await interrupted(None)
        assert exit_code(process, within=30) == 130, seen
    assert await count(database) == 1000


def read_until(terminal: int, pattern: bytes | None) -> bytes:
    """What a terminal shows until then, or until its end."""
    seen = b""
    while pattern is None or not re.search(pattern, seen):
        try:
            seen += os.read(terminal, 4096)
        except OSError:  # its other side is closed
            break
    return seen
