"""Live events: what a stream has, for whom, and that it resumes without a gap."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any, NamedTuple

import httpx2
import psutil
import pytest
from fastapi import FastAPI
from sqlalchemy import and_, delete, insert, select, update

from specimen.crud import category_crud
from specimen.factories import create
from specimen.models import User
from timberframe.crud.events import latest_event
from timberframe.data.events import Event
from timberframe.data.session import Database, open_database
from timberframe.errors import WrongDeclaration
from timberframe.http import events as live
from timberframe.http.events import READS_AT_ONCE, EventStreams, followed
from timberframe.testing import ADMIN, ALICE, BOB, ServerProcess, database_options, serving
from timberframe.testing.cast import Person
from timberframe.testing.databases import ENGINES, new_database, url_setting
from timberframe.testing.subject import tokens

pytestmark = pytest.mark.seconds(4)

PATH = "/products/events"
SOON_SECONDS = 0.3


class Told(NamedTuple):
    id: int
    type: str
    row: dict[str, Any]


def parse(text: str) -> list[Told]:
    """The events of a stream that have data, as `EventSource` dispatches them."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line[0] != ":")
        if "data" in fields:
            found.append(Told(int(fields["id"]), fields["event"], json.loads(fields["data"])))
    return found


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """For the server that several tests share."""
    return str(request.param)


async def told(client: httpx2.AsyncClient, after: int = 0, **filters: Any) -> list[Told]:
    """What there is after an id; a stream in the same process ends then."""
    answer = await client.get(PATH, headers={"Last-Event-ID": str(after)}, params=filters)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    return parse(answer.text)


async def test_stream_has_the_rows_as_get_shows_them(
    alice: httpx2.AsyncClient, client: httpx2.AsyncClient
) -> None:
    product = await create(alice)
    path = f"/products/{product['id']}"
    changed = (await alice.patch(path, json={"name": "Bench"})).json()
    created, updated = await told(client)
    assert (created.type, created.row) == ("product.created", product)
    assert (updated.type, updated.row) == ("product.updated", changed)
    assert await told(client, created.id) == [updated]
    assert await told(client, updated.id) == []
    assert await told(client, name="Bench") == [updated]


async def test_stream_without_an_id_begins_now(
    alice: httpx2.AsyncClient, client: httpx2.AsyncClient
) -> None:
    await create(alice)
    [last] = await told(client)
    answer = await client.get(PATH)
    assert answer.text == f"id: {last.id}\nretry: 1000\n\n"
    assert answer.headers["x-accel-buffering"] == "no"


async def test_hidden_rows_are_told_to_their_owner_alone(
    alice: httpx2.AsyncClient, bob: httpx2.AsyncClient, admin: httpx2.AsyncClient
) -> None:
    await create(alice, is_active=False)
    assert [len(await told(each)) for each in (alice, bob, admin)] == [1, 0, 1]


async def test_whoever_missed_what_is_gone_is_told_to_begin_anew(
    alice: httpx2.AsyncClient, client: httpx2.AsyncClient, database: Database
) -> None:
    for number in range(3):
        await create(alice, sku=f"S-{number}")
    first, _, last = await told(client)
    async with database.transaction() as db:
        await db.execute(delete(Event).where(Event.id < last.id))
    reset = f"event: reset\ndata: {{}}\nid: {last.id}\n\n"
    for after, is_reset in ((first.id, True), (last.id - 1, False), (last.id + 1, True)):
        answer = await client.get(PATH, headers={"Last-Event-ID": str(after)})
        assert answer.text.startswith(reset) == is_reset, after


async def test_id_that_is_none_is_refused(client: httpx2.AsyncClient) -> None:
    for last_id in ("-1", "abc", str(2**63), "1.5"):
        answer = await client.get(PATH, headers={"Last-Event-ID": last_id})
        assert answer.status_code == 422, last_id
        assert answer.json()["errors"][0]["loc"] == ["header", "last-event-id"]


async def test_unknown_filter_is_refused(client: httpx2.AsyncClient) -> None:
    answer = await client.get(PATH, params={"colour": "red"})
    assert answer.status_code == 422


async def test_head_has_no_content(client: httpx2.AsyncClient) -> None:
    answer = await client.head(PATH)
    assert (answer.status_code, answer.content) == (200, b"")


def test_resource_must_have_events() -> None:
    with pytest.raises(WrongDeclaration, match="CRUDCategory must state events = True"):
        followed(category_crud)


class Stream:
    """A client of a served process that reads as the events come."""

    def __init__(self, answer: httpx2.Response) -> None:
        self.answer = answer
        self.events: list[Told] = []
        self.text = ""
        self.is_over = asyncio.Event()
        self.has_more = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        with suppress(httpx2.TransportError):
            async for piece in self.answer.aiter_text():
                self.text += piece
                *whole, self.text = self.text.rsplit("\n\n", 1)
                self.events += parse("\n\n".join(whole))
                self.has_more.set()
        self.is_over.set()
        self.has_more.set()

    async def has(self, count: int) -> Sequence[Told]:
        async with asyncio.timeout(10):
            while len(self.events) < count:
                await self.more()
        return self.events

    async def more(self) -> None:
        """Return when there are more events, or the end."""
        await self.has_more.wait()
        self.has_more.clear()

    async def ends(self) -> None:
        async with asyncio.timeout(10):
            await self.is_over.wait()

    async def close(self) -> None:
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)


@asynccontextmanager
async def following(
    server: ServerProcess, headers: dict[str, str] | None = None, **params: Any
) -> AsyncIterator[Stream]:
    async with server.client(headers=headers) as client:
        stream = Stream(await opened(client, **params))
        await stream.more()  # it says from which event on it has all
        try:
            yield stream
        finally:
            await stream.close()


async def opened(client: httpx2.AsyncClient, **params: Any) -> httpx2.Response:
    """A stream, as soon as there is a place: a client that left keeps its own for a moment."""
    request = client.build_request("GET", PATH, params=params)
    async with asyncio.timeout(10):
        while (answer := await client.send(request, stream=True)).status_code == 503:
            await answer.aclose()
            await asyncio.sleep(0.02)
    assert answer.status_code == 200, await answer.aread()
    return answer


async def test_streams_of_two_processes_have_all_in_order(server: ServerProcess) -> None:
    async with server.client(ALICE) as alice:
        first = await create(alice, sku="LIVE-1")
        async with AsyncExitStack() as stack:
            # As many as two processes accept, so that both have some.
            follow = [following(server, owner_id=ALICE.id) for _ in range(8)]
            streams = [await stack.enter_async_context(each) for each in follow]
            path = f"/products/{first['id']}"
            await asyncio.gather(*(alice.patch(path, json={"stock": n}) for n in range(1, 21)))
            await alice.delete(path)
            seen = [await each.has(21) for each in streams]
    assert all(each == seen[0] for each in seen)
    assert [each.id for each in seen[0]] == sorted({each.id for each in seen[0]})
    assert [each.type for each in seen[0]] == ["product.updated"] * 20 + ["product.deleted"]


LAST_STOCK, KILLS = 30, 2


async def test_killed_process_costs_no_event(server: ServerProcess, database: Database) -> None:
    """The client connects again with the last id that it has, as `EventSource` does."""
    seen: list[Told] = []
    kills = 0
    async with server.client(ALICE) as alice, asyncio.timeout(60):
        product = await create(alice)
        last_id = await latest_event(database)
        writer = asyncio.create_task(count_up(alice, product["id"]))
        while not seen or seen[-1].row["stock"] < LAST_STOCK:
            with suppress(httpx2.TransportError):
                async with following(server, {"Last-Event-ID": str(last_id)}) as stream:
                    await stream.has(1)
                    if kills < KILLS:
                        kill_worker_of(stream, server)
                        kills += 1
                        await stream.is_over.wait()
                    seen += stream.events
                    last_id = seen[-1].id
            await asyncio.sleep(0.1)  # meanwhile there are more
        await writer
    ids = [each.id for each in seen]
    assert ids == sorted(set(ids))
    stocks = [each.row["stock"] for each in seen]
    assert list(dict.fromkeys(stocks)) == list(range(1, LAST_STOCK + 1))


async def count_up(alice: httpx2.AsyncClient, product_id: int) -> None:
    """Change the stock, each time until a process that lives has done it."""
    for stock in range(1, LAST_STOCK + 1):
        is_done = False
        while not is_done:
            with suppress(httpx2.TransportError):
                answer = await alice.patch(f"/products/{product_id}", json={"stock": stock})
                assert answer.status_code == 200
                is_done = True
            await asyncio.sleep(0.01)


def kill_worker_of(stream: Stream, server: ServerProcess) -> None:
    _, port = stream.answer.extensions["network_stream"].get_extra_info("client_addr")
    for worker in psutil.Process(server.process.pid).children():
        with suppress(psutil.NoSuchProcess):  # one that was killed before, and is still listed
            if any(each.raddr and each.raddr.port == port for each in worker.net_connections()):
                worker.kill()


HASTY = f"""
from timberframe.http import events
events.SCANNED = 100
events.LOOK_SECONDS = events.RIGHTS_SECONDS = {SOON_SECONDS}
"""


@pytest.fixture(scope="module")
def hasty_url(engine: str, request: pytest.FixtureRequest) -> Iterator[str]:
    template = request.getfixturevalue(f"{engine}_template")
    with new_database(engine, request, template) as url:
        yield url


@pytest.fixture(scope="module")
def hasty(hasty_url: str) -> Iterator[ServerProcess]:
    """One process with places for few streams, which soon looks for what ends them.

    It reads few events at once, so that fewer of them fill what is kept for a client that waits.
    """
    limits = {"MAX_EVENT_STREAMS": "3", "MAX_EVENT_STREAMS_PER_CLIENT": "2"}
    with serving(before=HASTY, DATABASE_URL=hasty_url, **limits) as server:
        yield server


@pytest.fixture
async def hasty_database(hasty_url: str) -> AsyncIterator[Database]:
    options = database_options().at(url_setting(hasty_url).get_secret_value())
    async with open_database(options) as database:
        yield database


async def test_streams_end_when_the_database_is_an_older_one(
    hasty: ServerProcess, hasty_database: Database
) -> None:
    """A restored backup gives ids out again: a client that waits for higher ones would miss all."""
    async with hasty.client(ALICE) as alice, following(hasty) as stream:
        for number in range(3):
            await create(alice, sku=f"S-{number}")
        first, _, third = await stream.has(3)
        await delete_event(hasty_database, first)
        await asyncio.sleep(3 * SOON_SECONDS)
        assert not stream.is_over.is_set()  # the control
        await delete_event(hasty_database, third)
        await stream.ends()
        last = {"Last-Event-ID": str(third.id)}
        async with alice.stream("GET", PATH, headers=last) as answer:
            assert await anext(answer.aiter_lines()) == "event: reset"


async def delete_event(database: Database, event: Told) -> None:
    async with database.transaction() as db:
        await db.execute(delete(Event).where(Event.id == event.id))


@pytest.mark.parametrize(
    "lost", [{"is_active": False}, {"is_superuser": False}], ids=["disabled", "demoted"]
)
async def test_lost_account_or_right_ends_the_stream(
    hasty: ServerProcess, hasty_database: Database, lost: dict[str, Any]
) -> None:
    reader = ALICE if "is_active" in lost else ADMIN
    async with following(hasty, reader.headers) as stream, following(hasty) as other:
        try:
            await change(hasty_database, reader, **lost)
            await stream.ends()
            assert not other.is_over.is_set()  # the control
        finally:
            await change(hasty_database, reader, **dict.fromkeys(lost, True))


async def change(database: Database, reader: Person, **values: Any) -> None:
    async with database.transaction() as db:
        await db.execute(update(User).where(User.id == reader.id).values(**values))


async def test_stream_ends_with_its_token(hasty: ServerProcess) -> None:
    short = replace(tokens(), lifetime=timedelta(seconds=3)).create(ALICE.id)
    headers = {"Authorization": f"Bearer {short}"}
    async with following(hasty, headers) as stream, following(hasty) as other:
        await stream.ends()
        assert not other.is_over.is_set()  # the control


async def test_streams_are_bounded_for_each_client_and_in_all(hasty: ServerProcess) -> None:
    async with following(hasty), hasty.client() as anybody, hasty.client(BOB) as bob:
        async with asyncio.timeout(30), following(hasty):  # a stream that is not refused never ends
            refused = await anybody.get(PATH)
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
            async with following(hasty, ALICE.headers):
                assert (await bob.get(PATH)).status_code == 503
                assert (await bob.get("/products/")).status_code == 200
        async with following(hasty):  # a client that left has given its place back
            pass


async def test_heartbeat_is_sent_to_a_quiet_stream(
    client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "HEARTBEAT_SECONDS", 0)
    answer = await client.get(PATH)
    begin, ping = answer.text.removesuffix("\n\n").split("\n\n")
    assert ping == f": ping\n{begin.splitlines()[0]}"


async def test_heartbeats_are_sent_on_a_long_way_back(
    alice: httpx2.AsyncClient, client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without them a proxy would close it, and the client would begin at the same id again."""
    monkeypatch.setattr(live, "HEARTBEAT_SECONDS", 0)
    monkeypatch.setattr(live, "SCANNED", 1)
    for number in range(3):
        await create(alice, sku=f"S-{number}")
    first, second, third = await told(client)
    headers = {"Last-Event-ID": str(first.id - 1)}
    answer = await client.get(PATH, headers=headers, params={"sku": "none"})
    _, *pings = answer.text.removesuffix("\n\n").split("\n\n")
    assert pings == [f": ping\nid: {each.id}" for each in (first, second, third)]


async def test_demoted_superuser_does_not_read_on_from_long_ago(
    hasty: ServerProcess, hasty_database: Database
) -> None:
    async with hasty.client(ALICE) as alice:
        hidden = await create(alice, sku="LONG-AGO", description="x" * 2000, is_active=False)
    ids = await multiply_events(hasty_database, hidden["id"], times=12)
    assert await read_slowly(hasty, hasty_database, ids, {}) == len(ids)  # the control
    try:
        got = await read_slowly(hasty, hasty_database, ids, {"is_superuser": False})
        assert got < len(ids)
    finally:
        await change(hasty_database, ADMIN, is_superuser=True)


async def multiply_events(database: Database, product_id: int, *, times: int) -> Sequence[int]:
    """Double the events of a product so many times; return their ids."""
    values = (Event.type, Event.resource, Event.row_id, Event.data, Event.created_at)
    names = [each.key for each in values]
    of_product = and_(Event.resource == "products", Event.row_id == product_id)
    async with database.transaction() as db:
        for _ in range(times):
            await db.execute(insert(Event).from_select(names, select(*values).where(of_product)))
        return (await db.scalars(select(Event.id).where(of_product).order_by(Event.id))).all()


async def read_slowly(
    server: ServerProcess, database: Database, ids: Sequence[int], lost: dict[str, Any]
) -> int:
    """How many events a superuser gets who reads nothing for a while, and loses a right in it."""
    headers = ADMIN.headers | {"Last-Event-ID": str(ids[0] - 1)}
    received = bytearray()
    async with server.client(headers=headers) as client:
        answer = await opened(client)
        if lost:
            await change(database, ADMIN, **lost)
        await asyncio.sleep(2 * SOON_SECONDS)
        async for piece in answer.aiter_bytes():
            received += piece
            if received.endswith(b"id: %d\n\n" % ids[-1]):
                break
    return received.count(b"\nevent: product")


async def test_streams_share_a_query_only_while_it_runs(app: FastAPI, client: object) -> None:
    """Kept for longer, all that clients ask for with ever other filters would fill the memory."""
    streams: EventStreams = app.state.event_streams
    ran = 0

    async def read() -> bytes:
        nonlocal ran
        ran += 1
        await asyncio.sleep(0)
        return b"events"

    assert await asyncio.gather(*(streams.read("same", read) for _ in range(3))) == [b"events"] * 3
    assert ran == 1
    await streams.read("same", read)
    assert ran == 2


async def test_clients_that_left_do_not_delay_those_that_stay(app: FastAPI, client: object) -> None:
    streams: EventStreams = app.state.event_streams
    may_end = asyncio.Event()
    ran: list[str] = []

    async def wait() -> bytes:
        await may_end.wait()
        return b""

    def noting(name: str) -> asyncio.Task[bytes]:
        async def read() -> bytes:
            ran.append(name)
            return b""

        return asyncio.create_task(streams.read(name, read))

    running = [asyncio.create_task(streams.read(each, wait)) for each in range(READS_AT_ONCE)]
    await asyncio.sleep(0)
    left, stays = noting("left"), noting("stays")
    await asyncio.sleep(0)
    left.cancel()
    await asyncio.gather(left, return_exceptions=True)
    may_end.set()
    await asyncio.gather(stays, *running)
    assert ran == ["stays"]
