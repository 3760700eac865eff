"""Deliveries to real servers, over TLS and without, that answer, redirect, hang, or talk nonsense.

127.0.0.2 plays the public internet where it matters: it is allowed, and 127.0.0.1 is not.
"""

import asyncio
import json
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import psutil
import pytest
import trustme
from standardwebhooks import Webhook

from timberframe.testing import free_port
from timberframe.webhooks.options import WebhookOptions
from timberframe.webhooks.sending import Answer, DeliveryFailed, Failure, post
from timberframe.webhooks.signatures import new_secret, signature_headers
from timberframe.webhooks.targets import check_url

BODY = b'{"type": "product.created"}'
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\ntaken"
OPTIONS = WebhookOptions(user_agent="shop-webhooks", timeout=5)
LOCAL = replace(OPTIONS, allowed_networks=(ip_network("127.0.0.0/8"), ip_network("::1")))
HASTY = replace(LOCAL, timeout=0.4)


@dataclass
class Receiver:
    """What a server took in: whole requests, and how many connections."""

    port: int = 0
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0

    def url(self, host: str = "127.0.0.1", scheme: str = "http") -> str:
        return f"{scheme}://{host}:{self.port}/hook?key=1"


Behave = Callable[[asyncio.StreamWriter], Awaitable[None]]


def saying(*pieces: bytes, pause: float = 0) -> Behave:
    """An answer in pieces, then the end of the connection."""

    async def behave(writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause)

    return behave


def endless(first: bytes, piece: bytes, pause: float = 0) -> Behave:
    async def behave(writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        while True:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause)

    return behave


async def hang(writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(30)


@asynccontextmanager
async def serving(
    behave: Behave = saying(OK),  # noqa: B008 - it is a constant
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    tls: ssl.SSLContext | None = None,
    reads: bool = True,
) -> AsyncIterator[Receiver]:
    """A server that reads a request and behaves; afterwards no connection to it may be open."""
    receiver = Receiver()
    tasks: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        receiver.connections += 1
        task = asyncio.current_task()
        assert task
        tasks.add(task)
        try:
            if reads:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
                receiver.requests.append(head + await reader.readexactly(length))
            await behave(writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the other side has left
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, host, port, ssl=tls)
    address = server.sockets[0].getsockname()[:2]
    receiver.port = address[1]
    try:
        yield receiver
        assert open_to(address) == []
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def open_to(address: tuple[str, int]) -> list[Any]:
    """Connections of this process to the address, on the calling side."""
    return [
        each
        for each in psutil.Process().net_connections()
        if tuple(each.raddr) == address and each.status == psutil.CONN_ESTABLISHED
    ]


async def deliver(url: str, options: WebhookOptions = LOCAL, body: bytes = BODY) -> Answer:
    return await post(url, body, {"webhook-id": "msg_17"}, options)


async def failure_of(
    url: str, options: WebhookOptions = LOCAL, body: bytes = BODY
) -> DeliveryFailed:
    """The error, which is in time and names no address."""
    started = time.perf_counter()
    with pytest.raises(DeliveryFailed) as failed:
        await deliver(url, options, body)
    assert time.perf_counter() - started < options.timeout + 5  # servers hang for 30
    assert "127." not in str(failed.value)
    assert "::" not in str(failed.value)
    return failed.value


class Names:
    """What the system's resolver knows beside addresses, and what it was asked."""

    def __init__(self) -> None:
        self.known: dict[str, list[list[str]]] = {}
        self.asked: list[str] = []

    def know(self, name: str, *answers: list[str]) -> None:
        """Each lookup takes the next answer; the last one stays."""
        self.known[name] = list(answers)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    made, real = Names(), socket.getaddrinfo

    def getaddrinfo(host: str, port: int, *rest: Any) -> list[Any]:
        made.asked.append(host)
        answers = made.known.get(host, [[host]])
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        return [each for one in answer for each in real(one, port, *rest)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return made


Tls = Callable[..., ssl.SSLContext]


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tls:
    """The context of a server with a certificate of the authority that this process trusts."""
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))

    def context(
        *names: str, by: trustme.CA = authority, expires_at: datetime | None = None
    ) -> ssl.SSLContext:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        by.issue_cert(*names, not_after=expires_at).configure_cert(made)
        return made

    return context


def fresh(options: WebhookOptions = LOCAL) -> WebhookOptions:
    """Options that have not yet loaded the certificate authorities."""
    return replace(options)


async def test_delivery_arrives_and_is_signed() -> None:
    secret = new_secret()
    headers = signature_headers(BODY, [secret], message_id="msg_17", sent_at=datetime.now(UTC))
    async with serving() as receiver:
        answer = await post(receiver.url(), BODY, headers, LOCAL)
    assert (answer.status, answer.body_start, answer.is_success) == (200, "taken", True)
    assert 0 < answer.seconds < 5
    [request] = receiver.requests
    head, _, body = request.partition(b"\r\n\r\n")
    line, *fields = head.decode().split("\r\n")
    assert line == "POST /hook?key=1 HTTP/1.1"
    sent = dict(each.split(": ", 1) for each in fields)
    assert sent == headers | {
        "Host": f"127.0.0.1:{receiver.port}",
        "User-Agent": "shop-webhooks",
        "Accept-Encoding": "identity",
        "Connection": "close",
        "Content-Type": "application/json",
        "Content-Length": str(len(BODY)),
    }
    assert Webhook(secret).verify(body, sent) == json.loads(BODY)


@pytest.mark.parametrize("status", [100, 199, 204, 299, 300, 301, 304, 307, 404, 410, 500, 599])
async def test_any_status_is_an_answer_and_only_2xx_a_success(status: int) -> None:
    answers = [f"HTTP/1.1 {status} Whatever\r\nContent-Length: 0\r\n\r\n".encode()]
    is_interim = status in (100, 199)
    async with serving(saying(*answers, *([OK] if is_interim else []))) as receiver:
        answer = await deliver(receiver.url())
    assert answer.status == (200 if is_interim else status)
    assert answer.is_success == (is_interim or status in (204, 299))


async def test_answer_of_a_failure_can_be_shown() -> None:
    text = "Käse\0 \N{CHEESE WEDGE}".encode() + b"\xff"
    head = f"HTTP/1.1 500 Oops\r\nContent-Length: {len(text)}\r\n\r\n".encode()
    async with serving(saying(head + text)) as receiver:
        answer = await deliver(receiver.url())
    assert (answer.status, answer.body_start) == (500, "Käse\ufffd \N{CHEESE WEDGE}\ufffd")


async def test_compressed_answer_is_left_as_it_is() -> None:
    """A few bytes may become gigabytes."""
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n"
    async with serving(saying(head + b"\x1f\x8bab")) as receiver:
        assert (await deliver(receiver.url())).body_start == "\x1f\ufffdab"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirect_is_not_followed(status: int) -> None:
    async with serving(host="127.0.0.2") as internal:
        location = internal.url("127.0.0.2")
        head = f"HTTP/1.1 {status} Moved\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
        async with serving(saying(head.encode())) as receiver:
            answer = await deliver(receiver.url())
        assert (answer.status, answer.is_success) == (status, False)
        assert (len(receiver.requests), internal.connections) == (1, 0)
        assert (await deliver(location)).is_success  # the control


@pytest.mark.parametrize(
    ("host", "listens_at"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("0x7f000001", "127.0.0.1"),
        ("localhost", "127.0.0.1"),
        ("[::1]", "::1"),
        ("[::ffff:127.0.0.1]", "127.0.0.1"),
    ],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_private_target_is_reached_only_where_it_is_allowed(
    names: Names, tls: Tls, host: str, listens_at: str, scheme: str
) -> None:
    names.know("localhost", ["127.0.0.1"])
    context = tls("localhost", "127.0.0.1", "::1", "::ffff:127.0.0.1")
    mapped = ip_network("::ffff:127.0.0.0/104")
    options = fresh(replace(LOCAL, allowed_networks=(*LOCAL.allowed_networks, mapped)))
    async with serving(host=listens_at, tls=context if scheme == "https" else None) as receiver:
        error = await failure_of(receiver.url(host, scheme), OPTIONS)
        assert error.code == Failure.TARGET_REFUSED
        assert receiver.connections == 0
        assert (await deliver(receiver.url(host, scheme), options)).is_success  # the control
        assert len(receiver.requests) == 1


async def test_name_that_changed_after_the_webhook_was_made_is_refused(
    names: Names, tls: Tls
) -> None:
    names.know("hooks.example.com", ["1.1.1.1"], ["127.0.0.1"])
    async with serving(tls=tls("hooks.example.com")) as receiver:
        url = receiver.url("hooks.example.com", "https")
        await check_url(url, OPTIONS)
        error = await failure_of(url, OPTIONS)
        assert error.code == Failure.TARGET_REFUSED
        assert str(error) == (
            "The URL must have a host name that resolves to public addresses only"
        )
        assert receiver.connections == 0
        assert (await deliver(url, fresh())).is_success  # the control


async def test_name_is_looked_up_once_so_that_its_address_cannot_change_after_the_check(
    names: Names, tls: Tls
) -> None:
    """Both servers have a valid certificate and the same port: only the address tells them."""
    names.know("hooks.example.com", ["127.0.0.2"], ["127.0.0.1"])
    context = tls("hooks.example.com")
    only = replace(OPTIONS, allowed_networks=(ip_network("127.0.0.2"),))
    async with (
        serving(host="127.0.0.2", tls=context) as receiver,
        serving(port=receiver.port, tls=context) as internal,
    ):
        url = receiver.url("hooks.example.com", "https")
        assert (await deliver(url, only)).is_success
        assert names.asked == ["hooks.example.com"]
        assert (len(receiver.requests), internal.connections) == (1, 0)
        # The control: the second lookup leads elsewhere.
        assert (await deliver(url, fresh())).is_success
        assert (len(receiver.requests), len(internal.requests)) == (1, 1)


@pytest.mark.parametrize("addresses", [["127.0.0.2", "127.0.0.1"], ["127.0.0.1", "127.0.0.2"]])
async def test_name_with_a_private_address_among_others_is_refused(
    names: Names, addresses: list[str]
) -> None:
    names.know("hooks.example.com", addresses)
    only = replace(OPTIONS, allowed_networks=(ip_network("127.0.0.2"),))
    async with serving(host="127.0.0.2") as receiver:
        url = receiver.url("hooks.example.com")
        assert (await failure_of(url, only)).code == Failure.TARGET_REFUSED
        assert receiver.connections == 0
        names.know("hooks.example.com", ["127.0.0.2"])
        assert (await deliver(url, only)).is_success  # the control


async def test_next_address_is_tried_where_the_first_does_not_accept(names: Names) -> None:
    names.know("hooks.example.com", ["::1", "127.0.0.3", "127.0.0.2"])
    async with serving(host="127.0.0.2") as receiver:
        assert (await deliver(receiver.url("hooks.example.com"))).is_success


@pytest.mark.parametrize(
    "url", ["https://hooks.example.com:0/", "https://a@hooks.example.com/", "nonsense", ""]
)
async def test_url_that_is_no_target_is_refused(names: Names, url: str) -> None:
    names.know("hooks.example.com", ["127.0.0.1"])
    assert (await failure_of(url)).code == Failure.TARGET_REFUSED
    assert names.asked == []


async def test_certificate_is_that_of_the_name(names: Names, tls: Tls) -> None:
    names.know("hooks.example.com", ["127.0.0.1"])
    context, asked_for = tls("hooks.example.com"), []
    context.sni_callback = lambda _connection, name, _context: asked_for.append(name)
    async with serving(tls=context) as receiver:
        assert (await deliver(receiver.url("hooks.example.com", "https"), fresh())).is_success
    assert asked_for == ["hooks.example.com"]
    assert b"\r\nHost: hooks.example.com:" in receiver.requests[0]


@pytest.mark.parametrize(
    ("name", "is_known", "is_expired", "reason"),
    [
        ("other.example.com", True, False, "Hostname mismatch"),
        ("127.0.0.1", True, False, "Hostname mismatch"),
        ("hooks.example.com", False, False, "unable to get local issuer certificate"),
        ("hooks.example.com", True, True, "certificate has expired"),
    ],
    ids=["of another host", "of the address", "of an unknown authority", "expired"],
)
async def test_wrong_certificate_is_refused(
    names: Names, tls: Tls, name: str, is_known: bool, is_expired: bool, reason: str
) -> None:
    names.know("hooks.example.com", ["127.0.0.1"])
    other = {} if is_known else {"by": trustme.CA()}
    expired = {"expires_at": datetime.now(UTC) - timedelta(days=1)} if is_expired else {}
    async with serving(tls=tls(name, **other, **expired)) as receiver:
        error = await failure_of(receiver.url("hooks.example.com", "https"), fresh())
        assert error.code == Failure.TLS_FAILED
        assert reason in str(error)
        assert receiver.requests == []
    async with serving(tls=tls("hooks.example.com")) as receiver:  # the control
        assert (await deliver(receiver.url("hooks.example.com", "https"), fresh())).is_success


async def test_plain_server_is_no_tls_server() -> None:
    async with serving(saying(OK), reads=False) as receiver:
        error = await failure_of(receiver.url(scheme="https"))
        assert (error.code, str(error)) == (Failure.TLS_FAILED, "The TLS handshake failed")


async def test_port_that_nobody_listens_at() -> None:
    error = await failure_of(f"http://127.0.0.1:{free_port()}/")
    assert error.code == Failure.NOT_CONNECTED


@pytest.fixture
def full_port() -> Iterator[int]:
    """A port whose queue of connections is full: further ones get no answer."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listening:
        port = listening.getsockname()[1]
        waiting = [socket.socket() for _ in range(3)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(("127.0.0.1", port))
        yield port
        for each in waiting:
            each.close()


async def test_server_that_does_not_accept_is_given_up(full_port: int) -> None:
    error = await failure_of(f"http://127.0.0.1:{full_port}/", HASTY)
    assert error.code == Failure.TIMEOUT
    assert str(error) == "There was no complete answer within 0.4 seconds"


async def test_address_that_does_not_accept_leaves_time_for_the_next(
    names: Names, full_port: int
) -> None:
    names.know("hooks.example.com", ["127.0.0.1", "127.0.0.2"])
    async with serving(host="127.0.0.2", port=full_port) as receiver:
        started = time.perf_counter()
        answer = await deliver(receiver.url("hooks.example.com"), replace(LOCAL, timeout=2))
        assert answer.is_success
        assert time.perf_counter() - started > 0.9  # the control: the first one hung


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n"
HANGING = {
    "after accept": hang,
    "in the status line": saying(b"HTTP/1.1 20", pause=30),
    "in the headers": saying(HEAD, pause=30),
    "in the body": saying(HEAD + b"\r\n" + b"a" * 50, pause=30),
    "trickling headers": endless(HEAD + b"X: ", b"a", pause=0.05),
    "trickling body": endless(HEAD + b"\r\n", b"a", pause=0.05),
    "trickling interim answers": endless(b"", b"HTTP/1.1 102 Processing\r\n\r\n", pause=0.05),
}


@pytest.mark.parametrize("behave", HANGING.values(), ids=HANGING.keys())
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_server_that_hangs_is_given_up(tls: Tls, behave: Behave, scheme: str) -> None:
    options = fresh(HASTY)
    assert options.ssl_context  # loaded, so that the time is that of the call
    async with serving(behave, tls=tls("127.0.0.1") if scheme == "https" else None) as receiver:
        for _ in range(5):
            started = time.perf_counter()
            error = await failure_of(receiver.url(scheme=scheme), options)
            assert time.perf_counter() - started > 0.35
            assert error.code == Failure.TIMEOUT
            if receiver.requests:  # otherwise a busy machine took all the time to connect
                break
        assert len(receiver.requests) == 1


async def test_server_that_hangs_in_the_tls_handshake_is_given_up() -> None:
    async with serving(hang, reads=False) as receiver:
        assert (await failure_of(receiver.url(scheme="https"), HASTY)).code == Failure.TIMEOUT
        assert receiver.connections == 1


async def test_server_that_reads_nothing_is_given_up() -> None:
    """Bytes that wait to be sent must not keep the connection."""
    async with serving(hang, reads=False) as receiver:
        error = await failure_of(receiver.url(), HASTY, body=b"a" * 20_000_000)
        assert error.code == Failure.TIMEOUT


async def test_name_server_that_hangs_is_given_up(
    names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, answers = socket.getaddrinfo, threading.Event()

    def hanging(*arguments: Any) -> list[Any]:
        answers.wait(30)
        return known(*arguments)

    names.know("hooks.example.com", ["127.0.0.1"])
    monkeypatch.setattr(socket, "getaddrinfo", hanging)
    async with serving() as receiver:
        url = receiver.url("hooks.example.com")
        assert (await failure_of(url, HASTY)).code == Failure.TIMEOUT
        answers.set()
        assert (await deliver(url)).is_success  # the control


async def test_server_that_is_slow_is_waited_for_as_long_as_it_may_take() -> None:
    slow = saying(*(bytes([each]) for each in OK), pause=0.005)
    async with serving(slow) as receiver:
        assert (await deliver(receiver.url())).body_start == "taken"
        error = await failure_of(receiver.url(), replace(LOCAL, timeout=0.1))
        assert error.code == Failure.TIMEOUT


@pytest.mark.parametrize(
    "first",
    [
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffff\r\n",
    ],
    ids=["until the end", "length", "chunk"],
)
async def test_endless_body_is_cut(first: bytes) -> None:
    async with serving(endless(first, b"a" * 1000)) as receiver:
        answer = await deliver(receiver.url())
    assert answer.is_success
    assert 1000 <= len(answer.body_start) <= 4096
    assert set(answer.body_start) == {"a"}


async def test_body_that_is_long_is_cut_after_4_kb() -> None:
    head = b"HTTP/1.1 200 OK\r\nX: " + b"x" * 12_000 + b"\r\nContent-Length: 5000\r\n\r\n"
    async with serving(saying(head, b"b" * 5000, pause=0.1)) as receiver:
        assert (await deliver(receiver.url())).body_start == "b" * 4096


async def test_endless_extensions_of_chunks_are_cut() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with serving(endless(head, b"1;" + b"e" * 1000 + b"\r\na\r\n")) as receiver:
        answer = await deliver(receiver.url())
    assert answer.status == 200
    assert set(answer.body_start) <= {"a"}


ENDLESS_HEADS = {
    "headers": endless(b"HTTP/1.1 200 OK\r\n", b"X-And-So-On: 1\r\n"),
    "one header": endless(b"HTTP/1.1 200 OK\r\nX: ", b"a" * 1000),
    "reason": endless(b"HTTP/1.1 200 ", b"a" * 1000),
    "interim answers": endless(b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
}


@pytest.mark.parametrize("behave", ENDLESS_HEADS.values(), ids=ENDLESS_HEADS.keys())
async def test_endless_head_is_refused(behave: Behave) -> None:
    async with serving(behave) as receiver:
        error = await failure_of(receiver.url())
        assert error.code == Failure.ANSWER_TOO_LARGE


@pytest.mark.parametrize(("size", "is_taken"), [(16_000, True), (17_000, False)])
async def test_head_of_16_kb_is_taken(size: int, is_taken: bool) -> None:
    head = b"HTTP/1.1 200 OK\r\nX: " + b"x" * size + b"\r\nContent-Length: 0\r\n\r\n"
    async with serving(saying(head)) as receiver:
        if is_taken:
            assert (await deliver(receiver.url())).is_success
        else:
            assert (await failure_of(receiver.url())).code == Failure.ANSWER_TOO_LARGE


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x00\xff" * 500,
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nno header\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n",
        HEAD + b"\r\ncut",
    ],
)
async def test_answer_that_is_not_http_is_a_failure(answer: bytes) -> None:
    async def behave(writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        writer.write_eof()
        await asyncio.sleep(1)

    async with serving(behave) as receiver:
        assert (await failure_of(receiver.url())).code == Failure.INVALID_ANSWER


async def test_connection_that_is_reset_is_a_failure() -> None:
    async def reset(writer: asyncio.StreamWriter) -> None:
        linger = b"\1\0\0\0\0\0\0\0"
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()

    async with serving(reset) as receiver:
        assert (await failure_of(receiver.url())).code == Failure.CONNECTION_LOST


async def test_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving() as proxy, serving() as receiver:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            for written in (name, name.lower()):
                monkeypatch.setenv(written, f"http://127.0.0.1:{proxy.port}")
        assert (await deliver(receiver.url())).is_success
        assert (proxy.connections, len(receiver.requests)) == (0, 1)
