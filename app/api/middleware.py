"""Plain ASGI around every request: identity and log outside, limits and last resort inside."""

import re
import secrets
import time
from collections.abc import Mapping

import structlog
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.errors import problem
from app.core.errors import AppError, BadRequest, ContentTooLarge

log = structlog.get_logger()

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

# An API's answers are data: nothing in them may be run, framed, guessed at or embedded.
API_HEADERS = {
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "server": "myapi",  # the server's own name would be sent otherwise
    "x-content-type-options": "nosniff",
}
HSTS = "max-age=31536000; includeSubDomains"
_API_HEADERS = [(name.encode(), value.encode()) for name, value in API_HEADERS.items()]


class RequestContext:
    """Outermost: a request id, the security headers, and one line of log for each request."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        started = time.perf_counter()
        sent = dict(scope["headers"])
        sent_id = sent.get(b"x-request-id", b"").decode("latin-1")
        request_id = sent_id if _REQUEST_ID.fullmatch(sent_id) else secrets.token_hex(16)
        scope.setdefault("state", {})["request_id"] = request_id
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = [(b"x-request-id", request_id.encode()), *_API_HEADERS]
                if b"authorization" in sent:
                    own.append((b"cache-control", b"no-store"))
                if scope["scheme"] == "https":
                    own.append((b"strict-transport-security", HSTS.encode()))
                answer = message["headers"]
                present = {name for name, _ in answer}
                answer += [header for header in own if header[0] not in present]
            await send(message)

        try:
            await self.app(scope, receive, send_with_headers)
        finally:
            log.info(
                "request",
                method=scope["method"],
                route=_route_template(scope),
                status=status,
                duration_ms=round((time.perf_counter() - started) * 1000, 1),
            )


def _route_template(scope: Scope) -> str | None:
    """`/api/v1/users/{user_id}`: a raw path may hold what a log must not."""
    context = scope.get("fastapi", {}).get("effective_route_context") or scope.get("route")
    path: str | None = getattr(context, "path_format", None)
    return path


class Compression(GZipMiddleware):
    """Gzip, but never for answers with tokens: beside reflected input, sizes give secrets away."""

    def __init__(self, app: ASGIApp, *, secret_prefix: str) -> None:
        # Level 1 costs a sixth of level 9 and is a fifth larger.
        super().__init__(app, minimum_size=1000, compresslevel=1)
        self.secret_prefix = secret_prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(self.secret_prefix):
            return await self.app(scope, receive, send)
        await super().__call__(scope, receive, send)


class Gate:
    """Innermost: one Host header and a known one, a bounded body, and no exception gets past.

    `larger_bodies` has the bound of each path that takes more than `max_body_bytes`.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        allowed_hosts: list[str],
        max_body_bytes: int,
        larger_bodies: Mapping[str, int],
    ) -> None:
        self.app = app
        names = frozenset(host.lower() for host in allowed_hosts)
        self.allowed_hosts = frozenset() if "*" in names else names  # none named: all are
        self.max_body_bytes = max_body_bytes
        self.larger_bodies = larger_bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        started = False
        received_bytes = 0
        max_bytes = self.larger_bodies.get(scope["path"], self.max_body_bytes)

        async def receive_bounded() -> Message:
            nonlocal received_bytes
            message = await receive()
            received_bytes += len(message.get("body", b""))
            if received_bytes > max_bytes:
                # FastAPI lets only this kind of exception through while it reads a body.
                error = ContentTooLarge(max_bytes)
                raise HTTPException(error.status, error.detail, error.headers)
            return message

        async def send_noting_start(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            self._check(Headers(scope=scope), max_bytes)
            await self.app(scope, receive_bounded, send_noting_start)
        except AppError as refused:
            await problem(scope, refused)(scope, receive, send)
        except Exception:
            log.exception("unhandled_exception")
            if started:
                raise  # half an answer is out: only closing the connection tells the client
            await problem(scope, AppError("Internal server error"))(scope, receive, send)

    def _check(self, headers: Headers, max_bytes: int) -> None:
        hosts = headers.getlist("host")
        if len(hosts) != 1:
            raise BadRequest("Exactly one Host header is needed")
        if self.allowed_hosts and _host_name(hosts[0]) not in self.allowed_hosts:
            raise BadRequest("This host is not served here")
        length = headers.get("content-length", "0").lstrip("0")
        # Digits are counted first: Python refuses to read a number of thousands of them.
        if length.isdecimal() and (len(length) > 15 or int(length) > max_bytes):
            raise ContentTooLarge(max_bytes)


def _host_name(host: str) -> str:
    """`api.example.com` of `API.example.com:8000`, `[::1]` of `[::1]:8000`."""
    return re.sub(r":\d*$", "", host.lower())
