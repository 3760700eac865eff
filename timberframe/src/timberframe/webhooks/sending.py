"""Sends a delivery: one POST to an address that was checked, bounded in time and in bytes."""

import ssl
from collections.abc import Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from enum import StrEnum
from time import perf_counter

import anyio
import httpcore2

from timberframe.webhooks.options import WebhookOptions
from timberframe.webhooks.targets import Target, TargetRefused, resolve

MAX_HEAD_BYTES = 16 * 1024
MAX_BODY_BYTES = 4 * 1024
_MAX_ADDRESSES = 4  # of those that a name has, how many are tried


class Failure(StrEnum):
    """Why there was no answer. A code never changes its meaning."""

    TARGET_REFUSED = "target_refused"
    TIMEOUT = "timeout"
    NOT_CONNECTED = "not_connected"
    TLS_FAILED = "tls_failed"
    CONNECTION_LOST = "connection_lost"
    INVALID_ANSWER = "invalid_answer"
    ANSWER_TOO_LARGE = "answer_too_large"


class DeliveryFailed(Exception):
    """There was no answer; the message is for the owner of the webhook, and names no address."""

    def __init__(self, code: Failure, reason: str) -> None:
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True)
class Answer:
    """What the target answered; `body_start` is what can be shown of its first 4 kB."""

    status: int
    body_start: str
    seconds: float

    @property
    def is_success(self) -> bool:
        """Only 2xx: a redirect is not followed, since it could lead anywhere."""
        return 200 <= self.status < 300


async def post(
    url: str, body: bytes, headers: Mapping[str, str], options: WebhookOptions
) -> Answer:
    """Send `body`, which is JSON, and return the answer whatever its status.

    Raises `DeliveryFailed` if none arrives in time.
    """
    started = perf_counter()
    try:
        with anyio.fail_after(options.timeout):
            target = await resolve(url, options)
            status, start = await _exchange(target, body, headers, options)
    except TargetRefused as refused:
        raise DeliveryFailed(Failure.TARGET_REFUSED, f"The URL {refused}") from None
    except TimeoutError as late:
        reason = f"There was no complete answer within {options.timeout:g} seconds"
        raise DeliveryFailed(Failure.TIMEOUT, reason) from late
    # PostgreSQL's text cannot hold NUL.
    shown = start.decode(errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
    return Answer(status, shown, perf_counter() - started)


async def _exchange(
    target: Target, body: bytes, headers: Mapping[str, str], options: WebhookOptions
) -> tuple[int, bytes]:
    connected = await _connect(target, options)
    try:
        stream = _LimitedStream(await _start_tls(connected, target, options))
        return await _request(stream, target, body, headers, options)
    except httpcore2.RemoteProtocolError as error:
        raise DeliveryFailed(Failure.INVALID_ANSWER, "The answer was not valid HTTP") from error
    except (httpcore2.NetworkError, OSError) as error:
        raise DeliveryFailed(Failure.CONNECTION_LOST, "The connection was lost") from error
    finally:
        await connected.aclose()


async def _connect(target: Target, options: WebhookOptions) -> httpcore2.AsyncNetworkStream:
    """Connect to the first address that accepts; the name is not looked up again."""
    addresses = target.addresses[:_MAX_ADDRESSES]
    error: Exception | None = None
    for address in addresses:
        try:
            return await httpcore2.AnyIOBackend().connect_tcp(
                str(address), target.port, timeout=options.timeout / len(addresses)
            )
        except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as failed:
            error = failed
    raise DeliveryFailed(Failure.NOT_CONNECTED, "The target did not accept a connection") from error


async def _start_tls(
    stream: httpcore2.AsyncNetworkStream, target: Target, options: WebhookOptions
) -> httpcore2.AsyncNetworkStream:
    if target.scheme == "http":
        return stream
    try:
        return await stream.start_tls(options.ssl_context, server_hostname=target.host)
    except httpcore2.ConnectError as error:
        reason = "The TLS handshake failed"
        if isinstance(error.__cause__, ssl.SSLCertVerificationError):
            reason = f"The certificate is not valid: {error.__cause__.verify_message}"
        raise DeliveryFailed(Failure.TLS_FAILED, reason) from error


async def _request(
    stream: "_LimitedStream",
    target: Target,
    body: bytes,
    headers: Mapping[str, str],
    options: WebhookOptions,
) -> tuple[int, bytes]:
    url = httpcore2.URL(
        scheme=target.scheme, host=target.host, port=target.port, target=target.path
    )
    request = httpcore2.Request(
        "POST",
        url,
        headers=[
            ("Host", target.authority),
            ("User-Agent", options.user_agent),
            ("Accept-Encoding", "identity"),
            ("Connection", "close"),
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
            *headers.items(),
        ],
        content=body,
    )
    connection = httpcore2.AsyncHTTP11Connection(url.origin, stream)
    try:
        response = await connection.handle_async_request(request)
    except _LimitReached as reached:
        reason = f"The headers of the answer were larger than {MAX_HEAD_BYTES} bytes"
        raise DeliveryFailed(Failure.ANSWER_TOO_LARGE, reason) from reached
    stream.bytes_left += MAX_BODY_BYTES
    start = b""
    with suppress(_LimitReached):
        async with aclosing(response.aiter_stream()) as chunks:
            async for chunk in chunks:
                start += chunk
    return response.status, start[:MAX_BODY_BYTES]


class _LimitReached(Exception):
    pass


class _LimitedStream(httpcore2.AsyncNetworkStream):
    """Reads a limited number of bytes, however they are spread over headers, chunks or answers."""

    def __init__(self, stream: httpcore2.AsyncNetworkStream) -> None:
        self._stream = stream
        self.bytes_left = MAX_HEAD_BYTES

    # The timeouts are in the signatures of the library: what bounds a call is around all of it.
    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        if not self.bytes_left:
            raise _LimitReached
        data = await self._stream.read(min(max_bytes, self.bytes_left), timeout)
        self.bytes_left -= len(data)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()
