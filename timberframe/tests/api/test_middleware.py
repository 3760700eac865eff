"""What surrounds every request, met as a server hands it over: raw ASGI scopes."""

import re
from collections.abc import Sequence

import httpx2
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi.routing import iter_route_contexts

from specimen.asgi import HOST, Answer, call
from specimen.config import settings
from specimen.factories import create
from specimen.main import app as served
from timberframe.http.bodies import MAX_DISCARDED_BYTES
from timberframe.http.middleware import (
    API_HEADERS,
    HSTS,
    MAX_HEAD_BYTES,
    MAX_TARGET_BYTES,
)
from timberframe.testing import ALICE, create_app, lifespan

KNOWN_HOSTS = (
    *("api.example.com", "api.example.com:8000", "api.example.com:", "API.Example.COM:80"),
    *("[::1]", "[::1]:8000"),
)
UNKNOWN_HOSTS = (
    *("evil.example", "api.example.com.evil.example", "evil-api.example.com", "example.com"),
    *("api.example.com@evil.example", "api.example.com:80@evil.example", "evil@api.example.com"),
    *("api.example.com:80:80", "api.example.com, evil.example", "api.example.com/", "*", ""),
    *("::1", "[::2]", "[::1", "[::1]evil.example", "api.example.com\x00", "api.example.com:x"),
)


async def test_only_known_hosts_are_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "ALLOWED_HOSTS", ["api.example.com", "[::1]"])
    app = create_app()
    statuses = {
        host: (await call(app, ("host", host))).status for host in (*KNOWN_HOSTS, *UNKNOWN_HOSTS)
    }
    assert statuses == dict.fromkeys(KNOWN_HOSTS, 200) | dict.fromkeys(UNKNOWN_HOSTS, 400)


async def test_case_of_a_host_in_the_settings_does_not_matter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(settings, "ALLOWED_HOSTS", ["API.Example.com"])
    assert (await call(create_app(), HOST)).status == 200


@pytest.mark.parametrize("hosts", [[], ["api.example.com"]], ids=["any", "known"])
async def test_exactly_one_host_header_is_needed(
    monkeypatch: pytest.MonkeyPatch, hosts: list[str]
) -> None:
    monkeypatch.setattr(settings, "ALLOWED_HOSTS", hosts)
    app = create_app()
    assert (await call(app, HOST)).status == 200
    # As granian hands on what has no Host header.
    for wrong in (
        [],
        [("host", "")],
        [HOST, HOST],
        [HOST, ("host", "evil.example")],
        [("host", ""), HOST],
    ):
        answer = await call(app, *wrong)
        assert answer.status == 400, wrong
        assert b'"code":"bad_request"' in answer.body


async def test_http_1_0_needs_no_host() -> None:
    app = create_app()
    for version in ("1", "1.0"):
        for headers in ([], [("host", "")], [HOST]):
            assert (await call(app, *headers, http_version=version)).status == 200
        assert (await call(app, HOST, HOST, http_version=version)).status == 400


async def test_host_is_one_where_all_are_served() -> None:
    app = create_app()
    for host in ("localhost:8000", "[::1]:8000", "10.0.0.1", "my_host", "xn--bcher-kva.example:"):
        assert (await call(app, ("host", host))).status == 200, host
    for host in ("a b", "a, b", "a/b", "u@a", "a:b", "http://a", "[::1", "::1", "a\x00", "\xe4"):
        assert (await call(app, ("host", host))).status == 400, host


async def test_target_is_no_longer_than_its_limit() -> None:
    app = create_app()
    limit = MAX_TARGET_BYTES - len("/health")
    assert (await call(app, HOST, query_string=b"a" * limit)).status == 200
    answer = await call(app, HOST, query_string=b"a" * (limit + 1))
    assert (answer.status, answer.headers["content-type"]) == (414, "application/problem+json")


async def test_head_is_no_longer_than_its_limit() -> None:
    app = create_app()
    taken = len("/health") + len("".join(HOST)) + len("x")
    limit = MAX_HEAD_BYTES - taken
    assert (await call(app, HOST, ("x", "a" * limit))).status == 200
    answer = await call(app, HOST, ("x", "a" * (limit + 1)))
    assert (answer.status, answer.headers["content-type"]) == (431, "application/problem+json")


async def test_path_with_a_control_character_is_no_page(paths: list[str]) -> None:
    """The pattern of a route ends with $, which matches before a line feed too.

    The redirect to the path without a slash at its end would do so with what is before the slash.
    """
    app = create_app()
    for path in paths:
        for end in ("\n", "\n/", "\r\n", "\0", "\x7f/", "\x85"):
            for method in ("GET", "POST", "PATCH", "DELETE", "OPTIONS"):
                answer = await call(app, HOST, JSON, method=method, path=f"{path}{end}")
                assert answer.status == 404, (method, path, end)
                assert b'"code":"not_found"' in answer.body


@pytest.fixture
def paths() -> list[str]:
    known = [route.path_format for route in iter_route_contexts(served.routes)]
    return [re.sub("{[^}]*}", "7", path) for path in known if path]


async def test_body_that_is_encoded_is_refused() -> None:
    app = create_app()
    coding = ("content-encoding", "gzip")
    for path in ("/users/", "/auth/login", "/products/", "/products/import"):
        answer = await call(app, HOST, JSON, coding, method="POST", path=f"/api/v1{path}")
        assert answer.status == 415
        assert answer.headers["accept-encoding"] == "identity"
        assert b'"code":"unsupported_content_coding"' in answer.body
    assert (await call(app, HOST, coding)).status == 200


async def test_every_class_of_answer_has_the_security_headers() -> None:
    app = create_app()

    @app.get("/broken")
    async def fail() -> None:
        raise RuntimeError

    origin = ("origin", "http://localhost:3000")
    preflights = [("access-control-request-method", method) for method in ("GET", "BREW")]
    answers = {
        200: await call(app, HOST),
        400: await call(app),
        404: await call(app, HOST, path="/missing"),
        405: await call(app, HOST, method="BREW"),
        413: await call(app, HOST, ("content-length", "9999999")),
        500: await call(app, HOST, path="/broken"),
        307: await call(app, HOST, path="/api/v1/users"),
        401: await call(app, HOST, path="/api/v1/users/me"),
    }
    assert {status: answer.status for status, answer in answers.items()} == {s: s for s in answers}
    others = [
        *[await call(app, HOST, origin, asked, method="OPTIONS") for asked in preflights],
        await call(app, HOST, path="/api/openapi.json"),
        await call(app, HOST, path="/api/docs/assets/favicon.png"),
        await call(app, HOST, path="/api/docs/assets/favicon.png", method="HEAD"),
    ]
    for answer in (*answers.values(), *others):
        [vary] = answer.headers.get_list("vary")  # some caches only read one line
        assert "Authorization" in vary.split(", ")
        assert answer.headers["cache-control"] == "no-cache"
        for name, value in API_HEADERS.items():
            assert answer.headers.get_list(name) == [value]
        assert answer.headers["x-request-id"]
        assert not {"x-powered-by", "strict-transport-security"} & set(answer.headers)


async def test_https_is_pinned_where_it_is_spoken() -> None:
    app = create_app()
    for path in ("/health", "/missing", "/api/docs"):
        answer = await call(app, HOST, path=path, scheme="https")
        assert answer.headers["strict-transport-security"] == HSTS
        assert "strict-transport-security" not in (await call(app, HOST, path=path)).headers
    assert HSTS == "max-age=31536000; includeSubDomains"


def app_that_tells_its_client() -> FastAPI:
    app = create_app()

    @app.get("/client")
    async def read_client(request: Request) -> list[str]:
        assert request.client
        return [request.client.host, request.url.scheme, request.url.netloc]

    return app


PROXY, STRANGER = ("10.0.0.1", 1), ("10.0.1.1", 1)
FOR, PROTO = ("x-forwarded-for", "203.0.113.9"), ("x-forwarded-proto", "https")
DIRECT = b'["10.0.0.1","http","api.example.com"]'
FORWARDED = b'["203.0.113.9","https","api.example.com"]'


async def test_forwarding_headers_count_only_from_a_trusted_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    untrusting = app_that_tells_its_client()
    answer = await call(untrusting, HOST, FOR, PROTO, path="/client", client=PROXY)
    assert answer.body == DIRECT

    monkeypatch.setattr(settings, "TRUSTED_PROXIES", ["10.0.0.0/24"])
    app = app_that_tells_its_client()
    answer = await call(app, HOST, FOR, PROTO, path="/client", client=PROXY)
    assert answer.body == FORWARDED
    assert answer.headers["strict-transport-security"] == HSTS

    stranger = await call(app, HOST, FOR, PROTO, path="/client", client=STRANGER)
    assert stranger.body == DIRECT.replace(b"10.0.0.1", b"10.0.1.1")
    assert "strict-transport-security" not in stranger.headers


async def test_client_behind_a_proxy_cannot_choose_its_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(settings, "TRUSTED_PROXIES", ["10.0.0.1"])
    app = app_that_tells_its_client()
    forged = ("x-forwarded-for", "198.51.100.1")
    # What the client wrote himself stands before what the proxy added.
    for headers in ([forged, FOR], [("x-forwarded-for", "198.51.100.1, 203.0.113.9")]):
        answer = await call(app, HOST, *headers, PROTO, path="/client", client=PROXY)
        assert answer.body == FORWARDED
    for name in ("x-forwarded-host", "forwarded", "x-real-ip", "x-forwarded-port"):
        answer = await call(app, HOST, (name, "198.51.100.1"), path="/client", client=PROXY)
        assert answer.body == DIRECT


JSON = ("content-type", "application/json")
LIMIT = 2048


async def test_body_is_read_up_to_its_limit_and_no_further(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "MAX_BODY_BYTES", LIMIT)
    app = create_app()

    async def post(chunks: Sequence[bytes], *headers: tuple[str, str]) -> Answer:
        path = "/api/v1/users/"
        return await call(app, HOST, JSON, *headers, method="POST", path=path, chunks=chunks)

    async with lifespan(app):
        for chunks in ([b"[" * LIMIT], [b"[" * 1024] * 2, [b"["] * LIMIT):
            assert (await post(chunks)).status == 422  # read in full, and no JSON
            assert (await post(chunks, ("content-length", str(LIMIT)))).status == 422

    for size in (str(LIMIT + 1), "9" * 18, "9" * 5000):
        declared = await post([b"x"], ("content-length", size))
        assert (declared.status, declared.chunks_read) == (413, 0), size

    undeclared = await post([b"x" * 1024] * 1000)
    assert (undeclared.status, undeclared.chunks_read) == (413, 3)
    lying = await post([b"x" * 1024] * 1000, ("content-length", "10"))
    assert (lying.status, lying.chunks_read) == (413, 3)


async def test_rest_of_a_large_body_is_discarded_after_the_answer_but_not_for_ever() -> None:
    app = create_app()
    mebibyte = b"x" * 2**20

    async def post(size: int) -> Answer:
        length = ("content-length", str(size * 2**20))
        chunks = [mebibyte] * size
        return await call(app, HOST, length, method="POST", path="/api/v1/users/", chunks=chunks)

    whole = await post(20)
    assert (whole.status, whole.chunks_discarded) == (413, 20)
    endless = await post(1000)
    assert (endless.status, endless.chunks_discarded) == (413, MAX_DISCARDED_BYTES // 2**20)


async def test_parameters_of_a_query_are_counted() -> None:
    app = create_app()
    for count, status in ((1_000, 200), (1_001, 400)):
        query = b"&".join(b"a=%d" % n for n in range(count))
        assert (await call(app, HOST, query_string=query)).status == status


async def test_answers_to_credentials_are_never_stored(alice: httpx2.AsyncClient) -> None:
    product = await create(alice)
    paths = ("/users/me", "/products/", f"/products/{product['id']}", "/users/", "/missing")
    for path in (*paths, "/products/?limit=0", "/products/999"):
        answer = await alice.get(path, headers={"Accept-Encoding": "gzip"})
        assert answer.headers["cache-control"] == "no-store", path
    assert (await alice.post("/products/", json={})).headers["cache-control"] == "no-store"
    assert (await alice.delete("/health")).headers["cache-control"] == "no-store"
    form = {"username": ALICE.name, "password": ALICE.password}
    answer = await alice.post("/auth/login", data=form, headers={"Authorization": ""})
    assert answer.headers["cache-control"] == "no-store"


async def test_route_may_say_itself_how_long_it_is_fresh() -> None:
    app = create_app()
    answer = await call(app, HOST, ("authorization", "Bearer x"), path="/api/docs")
    assert answer.headers.get_list("cache-control") == ["no-store"]
    assert (await call(app, HOST)).headers.get_list("cache-control") == ["no-cache"]


async def test_long_answers_are_compressed_and_the_same(alice: httpx2.AsyncClient) -> None:
    for number in range(10):
        await create(alice, sku=f"CH-{number}", description="ä" * 50)
    plain = await alice.get("/products/", headers={"Accept-Encoding": "identity"})
    packed = await alice.get("/products/", headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) < len(plain.content) / 3
    assert packed.content == plain.content
    assert len(packed.json()["items"]) == 10
    for answer in (plain, packed):
        assert "Accept-Encoding" in answer.headers["vary"]
    short = await alice.get("/users/me", headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in short.headers


GZIPPED = ("gzip", "x-gzip", "*", "br, gzip;q=0.1", "gzip; q=1.000", "GZIP", "*;q=0, gzip")
PLAIN = ("", "gzip;q=0", "gzip; q=0.000", "identity", "br", "*;q=0", "gzip;q=0, *", "gzip;Q=0")


async def test_compression_is_what_the_client_takes(alice: httpx2.AsyncClient) -> None:
    path = f"/products/{(await create(alice, description='ä' * 2000))['id']}"
    for accepted in GZIPPED:
        answer = await alice.get(path, headers={"Accept-Encoding": accepted})
        assert answer.headers["content-encoding"] == "gzip", accepted
        assert answer.headers["etag"] == '"1-gzip"'
        assert answer.headers["vary"] == "Accept-Encoding, Origin, Authorization"
    for accepted in PLAIN:
        answer = await alice.get(path, headers={"Accept-Encoding": accepted})
        assert "content-encoding" not in answer.headers, accepted
        assert answer.headers["etag"] == '"1"'
        assert answer.headers["vary"] == "Accept-Encoding, Origin, Authorization"


async def test_all_lines_say_what_the_client_takes() -> None:
    app = create_app()
    app.add_api_route("/long", lambda: "x" * 5000)
    for lines, is_compressed in (
        (("*", "gzip;q=0"), False),
        (("gzip;q=0", "*"), False),
        (("br", "gzip"), True),
    ):
        accepted = [("accept-encoding", line) for line in lines]
        answer = await call(app, HOST, *accepted, path="/long")
        assert ("content-encoding" in answer.headers) == is_compressed, lines


async def test_short_answer_is_compressed_where_nothing_else_is_taken(
    alice: httpx2.AsyncClient,
) -> None:
    for accepted in ("gzip, identity;q=0", "gzip, *;q=0"):
        answer = await alice.get("/users/me", headers={"Accept-Encoding": accepted})
        assert answer.headers["content-encoding"] == "gzip"
        known = {"Accept-Encoding": accepted, "If-None-Match": answer.headers["etag"]}
        answer = await alice.get("/users/me", headers=known)
        assert (answer.status_code, answer.content) == (304, b"")
        assert "content-encoding" not in answer.headers


async def test_answers_with_tokens_are_never_compressed() -> None:
    app = create_app()
    no_store = JSONResponse("x" * 5000, headers={"cache-control": "no-store"})
    app.add_api_route("/secret", lambda: no_store)
    app.add_api_route("/long", lambda: "x" * 5000)
    gzip = ("accept-encoding", "gzip")
    assert "content-encoding" in (await call(app, HOST, gzip, path="/long")).headers
    secret = await call(app, HOST, gzip, path="/secret")
    assert "content-encoding" not in secret.headers
    assert secret.body == b'"' + b"x" * 5000 + b'"'


WELL_FORMED = ("a", "0123456789abcdef", "A-b_c.9", "x" * 64)
ILL_FORMED = ("", "x" * 65, "a b", "a\nb", "a\r\nset-cookie: b", "a,b", "\u00e9", "\x1b[31m", "a/b")


async def test_well_formed_request_id_is_kept_and_any_other_replaced() -> None:
    app = create_app()
    for sent in WELL_FORMED:
        answer = await call(app, HOST, ("x-request-id", sent))
        assert answer.headers.get_list("x-request-id") == [sent]
    for sent in ILL_FORMED:
        answer = await call(app, HOST, ("x-request-id", sent))
        assert len(answer.headers["x-request-id"]) == 32
        assert answer.headers["x-request-id"].isalnum()
