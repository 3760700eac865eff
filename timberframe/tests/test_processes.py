"""Several processes at once: races decided by the database, and a stop that drops nothing."""

import asyncio
import socket
import time

import httpx2
import pytest

from timberframe.testing import ALICE, ServerProcess, serving
from timberframe.testing.forked import exit_code

pytestmark = pytest.mark.seconds(4)

VARIANTS = ("carol@example.com", "Carol@Example.com", "CAROL@EXAMPLE.COM", "carol@EXAMPLE.com")


async def test_of_eight_sign_ups_at_once_one_succeeds(server: ServerProcess) -> None:
    limits = httpx2.Limits(max_connections=50, max_keepalive_connections=0)
    async with server.client(limits=limits) as client:

        async def sign_up(n: int) -> httpx2.Response:
            user = {
                "email": VARIANTS[n % len(VARIANTS)],
                "username": f"carol{n}",
                "password": "Carol-Pass-1",
            }
            return await client.post("/users/", json=user)

        answers = await asyncio.gather(*(sign_up(n) for n in range(8)))
    statuses = [answer.status_code for answer in answers]
    assert statuses.count(201) == 1
    assert statuses.count(400) == 7
    details = {answer.json()["detail"] for answer in answers if answer.status_code == 400}
    assert details == {"User with this email already exists"}


async def test_stop_finishes_requests_under_way_and_ends_live_streams_at_once(
    engine: str, database_url: str
) -> None:
    """Sign-ins are being hashed when the signal comes: their answers still arrive."""
    with serving("--workers", "2", DATABASE_URL=database_url) as server:
        events = "/products/events"
        async with (
            server.client() as client,
            client.stream("GET", events) as one,
            client.stream("GET", events) as other,
        ):
            streams = [one.aiter_lines(), other.aiter_lines()]
            for lines in streams:
                assert (await anext(lines)).startswith("id: ")
            form = {"username": ALICE.name, "password": ALICE.password}
            sign_ins = [
                asyncio.create_task(client.post("/auth/login", data=form)) for _ in range(8)
            ]
            await asyncio.wait(sign_ins, return_when=asyncio.FIRST_COMPLETED)
            began = time.monotonic()
            server.process.terminate()
            answers = await asyncio.gather(*sign_ins)
            for lines in streams:
                assert [line async for line in lines if line] == ["retry: 1000"]
        assert [answer.status_code for answer in answers] == [200] * 8
        assert exit_code(server.process, within=10) == 0
        assert time.monotonic() - began < GRACE_SECONDS
        assert "Traceback" not in server.log.read_text()
    with pytest.raises(httpx2.TransportError):
        httpx2.get(server.url)


GRACE_SECONDS = 30  # for requests that are under way: what a stop would take without an end


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
@pytest.mark.parametrize("is_chunked", [False, True], ids=["length", "chunks"])
def test_refusal_reaches_a_client_that_sends_all_before_it_reads(
    server: ServerProcess, is_chunked: bool
) -> None:
    """As many clients and proxies do: had the connection been closed at once, it would be lost."""
    chunk, count = b"x" * 65536, 200
    framing = "Transfer-Encoding: chunked" if is_chunked else f"Content-Length: {65536 * count}"
    url = httpx2.URL(server.url)
    with socket.create_connection((url.host, url.port or 80), timeout=60) as client:
        client.sendall(f"POST /api/v1/products/ HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n".encode())
        for _ in range(count):
            client.sendall(b"10000\r\n" + chunk + b"\r\n" if is_chunked else chunk)
        if is_chunked:
            client.sendall(b"0\r\n\r\n")
        assert client.recv(1024).startswith(b"HTTP/1.1 413 ")
