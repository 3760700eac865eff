"""ASGI middleware: request ids and log on the outside, limits and the last handler inside."""

import re
import secrets
import time
from collections.abc import Mapping
from functools import lru_cache

import structlog
from fastapi.middleware.cors import CORSMiddleware
from starlette.datastructures import Headers
from starlette.middleware.gzip import GZipMiddleware, GZipResponder, IdentityResponder
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from timberframe.errors import (
    AppError,
    BadRequest,
    ContentTooLarge,
    HeadTooLarge,
    NotFound,
    UnsupportedContentCoding,
    UriTooLong,
)
from timberframe.http.advice import advise
from timberframe.http.bodies import Bodies, BodyLimit
from timberframe.http.dependencies import SAFE_METHODS
from timberframe.http.exchange import Exchange
from timberframe.http.preconditions import GZIP_SUFFIX
from timberframe.http.problems import Refusal, problem

log = structlog.get_logger()

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

# An API's answers are data: browsers must not run, frame, sniff or embed them.
API_HEADERS = {
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
HSTS = "max-age=31536000; includeSubDomains"
# Under one URL, an owner sees other content than the public.
_VARY = (b"vary", b"Authorization")
MAX_HEAD_BYTES = 64 * 1024  # granian takes up to twice as much, depending on how it arrives
MAX_TARGET_BYTES = MAX_HEAD_BYTES // 2
MAX_PARAMETERS = 1_000  # of a query: each unknown one gets an error of its own


class RootPath:
    """Handles the prefix under which a proxy publishes the API, whether it forwards or strips it.

    Inside, the path includes the prefix, as ASGI specifies.
    """

    def __init__(self, app: ASGIApp, *, root_path: str) -> None:
        self.app = app
        self.root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path: str = scope["path"]
            if path.startswith("/") and not f"{path}/".startswith(f"{self.root_path}/"):
                path = f"{self.root_path}{path}"
            scope = {**scope, "root_path": self.root_path, "path": path}
        await self.app(scope, receive, send)


class RequestContext:
    """Sets a request id and the headers of every answer, and logs one line per request.

    HEAD runs as GET, and its content is dropped: RFC 9110 section 9.3.2.
    """

    def __init__(self, app: ASGIApp, *, server_name: str, headers: Mapping[str, str] = {}) -> None:
        """`headers` are added to every answer that lacks them, and override our own."""
        self.app = app
        # Without `server` the web server would send its own name.
        all_headers = {**API_HEADERS, "server": server_name, **headers}
        always = [(name.lower().encode(), value.encode()) for name, value in all_headers.items()]
        # A public answer may be stored if it is revalidated before each use; one for a caller must
        # not be stored.
        self._public = [*always, (b"cache-control", b"no-cache")]
        self._personal = [*always, (b"cache-control", b"no-store")]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        started = time.perf_counter()
        method = scope["method"]
        is_head = method == "HEAD"
        if is_head:
            scope = {**scope, "method": "GET"}
        sent = dict(scope["headers"])
        sent_id = sent.get(b"x-request-id", b"").decode("latin-1")
        request_id = sent_id if _REQUEST_ID.fullmatch(sent_id) else secrets.token_hex(16)
        Exchange(request_id, is_head).put_into(scope)
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = [(b"x-request-id", request_id.encode())]
                own += self._personal if b"authorization" in sent else self._public
                if scope["scheme"] == "https":
                    own.append((b"strict-transport-security", HSTS.encode()))
                answer = message["headers"]
                present = {name: place for place, (name, _) in enumerate(answer)}
                answer += [header for header in own if header[0] not in present]
                if (place := present.get(b"vary")) is None:
                    answer.append(_VARY)
                else:  # on one line: some caches only read one
                    answer[place] = b"vary", b"%b, %b" % (answer[place][1], _VARY[1])
            elif is_head:
                more = message.get("more_body", False)
                message = {"type": "http.response.body", "body": b"", "more_body": more}
            await send(message)

        try:
            await self.app(scope, receive, send_with_headers)
        finally:
            log.info(
                "request",
                method=method,
                route=_route_template(scope),
                status=status,
                duration_ms=round((time.perf_counter() - started) * 1000, 1),
            )


def _route_template(scope: Scope) -> str | None:
    """`/api/v1/users/{user_id}`: a raw path may hold data that must not be logged."""
    context = scope.get("fastapi", {}).get("effective_route_context") or scope.get("route")
    path: str | None = getattr(context, "path_format", None)
    return path


class CORS(CORSMiddleware):
    """Starlette's CORS, but preflights pass `RequestLimits`, and errors are problem details.

    It is outside `RequestLimits`, so that browsers let scripts read the errors of those too.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("method") == "OPTIONS":
            headers = Headers(scope=scope)
            if "origin" in headers and "access-control-request-method" in headers:
                scope = {**scope, "preflight": self.preflight_response(headers)}
                return await self.app(scope, receive, send)
        await super().__call__(scope, receive, send)

    def preflight_response(self, request_headers: Headers) -> Response:
        answer = super().preflight_response(request_headers)
        if answer.status_code < 400:
            return answer
        headers = {name: v for name, v in answer.headers.items() if not name.startswith("content-")}
        return Refusal(BadRequest(bytes(answer.body).decode(), headers=headers))


class Compression(GZipMiddleware):
    """Gzip, but never for answers with `no-store`, such as tokens.

    If an answer also reflects input, its compressed size can reveal the secret (BREACH).
    """

    def __init__(self, app: ASGIApp) -> None:
        # Level 1 takes a sixth of the time of level 9, and its output is a fifth larger.
        super().__init__(app, minimum_size=1000, compresslevel=1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        accepted = ",".join(Headers(scope=scope).getlist("accept-encoding"))
        takes_gzip, takes_identity = _codings(accepted)
        responder: ASGIApp
        if takes_gzip:
            minimum_size = self.minimum_size if takes_identity else 1
            responder = _Gzip(self.app, minimum_size, self.compresslevel)
        else:
            responder = IdentityResponder(self.app, self.minimum_size)
        await responder(scope, receive, send)


class _Gzip(GZipResponder):
    """Different bytes need a different strong entity tag: `"8-gzip"` instead of `"8"`."""

    _is_secret = False

    async def send_with_compression(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = message.get("headers", ())
            self._is_secret = any(n == b"cache-control" and b"no-store" in v for n, v in headers)
        if self._is_secret:
            await self.send(message)
        else:
            await super().send_with_compression(message)

    async def apply_compression(self, body: bytes, *, more_body: bool) -> bytes:
        headers = self.initial_message["headers"]
        for place, (name, value) in enumerate(headers):
            if name == b"etag" and not value.endswith(_GZIP_END):
                headers[place] = name, value.removesuffix(b'"') + _GZIP_END
        return await super().apply_compression(body, more_body=more_body)


_GZIP_END = f'{GZIP_SUFFIX}"'.encode()


@lru_cache(maxsize=256)
def _codings(accept_encoding: str) -> tuple[bool, bool]:
    """Whether the client accepts gzip, and whether it accepts identity: RFC 9110 section 12.5.3.

    If it accepts neither, the answer is not compressed; section 15.5.7 leaves that to the server.
    """
    taken = {
        coding.strip().lower(): not _NO_WEIGHT.search(parameters)
        for coding, _, parameters in (each.partition(";") for each in accept_encoding.split(","))
    }
    others = taken.get("*")
    takes_gzip = taken.get("gzip", taken.get("x-gzip", bool(others)))
    return takes_gzip, taken.get("identity", others is not False)


_NO_WEIGHT = re.compile(r"\bq\s*=\s*0(\.0*)?\s*(;|$)", re.IGNORECASE)


class RequestLimits:
    """Innermost: requires one known Host header, limits the body, and catches every exception.

    A preflight that passes gets the answer that `CORS` has prepared.
    `limit` applies to every body except those of the paths in `other_limits`.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        allowed_hosts: list[str],
        bodies: Bodies,
        limit: BodyLimit,
        other_limits: Mapping[str, BodyLimit],
    ) -> None:
        self.app = app
        names = frozenset(host.lower() for host in allowed_hosts)
        self.allowed_hosts = frozenset() if "*" in names else names  # empty: any
        self.bodies = bodies
        self.limit = limit
        self.other_limits = other_limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        started = is_too_large = False
        limit = self.other_limits.get(scope["path"], self.limit)

        async def send_noting_start(message: Message) -> None:
            nonlocal started, is_too_large
            started = True
            if message["type"] == "http.response.start":
                is_too_large = message["status"] == ContentTooLarge.status
            await send(message)

        try:
            length = self._check(scope, limit.bytes)
            bounded = self.bodies.bounded(receive, limit, length)
            app = scope.get("preflight", self.app)
            await app(scope, bounded, send_noting_start)
        except AppError as refused:
            await problem(scope, refused)(scope, receive, send_noting_start)
        except Exception as failed:
            advise(failed)
            log.exception("unhandled_exception")
            if started:
                raise  # half an answer is out: only closing the connection tells the client
            error = AppError("Internal server error")
            await problem(scope, error)(scope, receive, send_noting_start)
        if is_too_large:
            await self.bodies.discard(receive)

    def _check(self, scope: Scope, max_bytes: int) -> int | None:
        """Return the declared length of the body; raise if the request must be refused."""
        target_bytes = len(scope["path"]) + len(scope["query_string"])
        if target_bytes > MAX_TARGET_BYTES:
            raise UriTooLong(MAX_TARGET_BYTES)
        if target_bytes + sum(len(n) + len(v) for n, v in scope["headers"]) > MAX_HEAD_BYTES:
            raise HeadTooLarge(MAX_HEAD_BYTES)
        if _CONTROL.search(scope["path"]):
            raise NotFound("Page")  # `$` in a route's pattern also matches before a newline
        if scope["query_string"].count(b"&") >= MAX_PARAMETERS:
            raise BadRequest(f"The query has more than {MAX_PARAMETERS:,} parameters")
        headers = Headers(scope=scope)
        self._check_host(headers.getlist("host"), scope["http_version"])
        length = headers.get("content-length", "0").lstrip("0")
        # Sixteen digits exceed any limit, and `int()` refuses to read thousands of them.
        declared = int(length[:16]) if length.isdecimal() else None
        if declared and declared > max_bytes:
            raise ContentTooLarge(max_bytes)
        if scope["method"] not in SAFE_METHODS and "content-encoding" in headers:
            raise UnsupportedContentCoding
        return declared

    def _check_host(self, hosts: list[str], http_version: str) -> None:
        """RFC 9112 section 3.2; granian passes on an empty Host where the client sent none."""
        host = hosts[0] if hosts else ""
        if len(hosts) > 1 or (not host and http_version not in _WITHOUT_HOST):
            raise BadRequest("Exactly one Host header is needed")
        if self.allowed_hosts:
            if _host_name(host) not in self.allowed_hosts:
                raise BadRequest("This host is not served here")
        elif host and not _HOST.fullmatch(host):
            raise BadRequest("The Host header does not name a host")


_WITHOUT_HOST = ("1", "1.0")  # what granian and other servers call HTTP/1.0
_HOST = re.compile(r"([\w.~!$&'()*+,;=%-]+|\[[0-9A-Fa-f:.]+\])(:\d*)?", re.ASCII)


def _host_name(host: str) -> str:
    """`api.example.com` of `API.example.com:8000`, `[::1]` of `[::1]:8000`."""
    return re.sub(r":\d*$", "", host.lower())
