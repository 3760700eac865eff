"""HEAD is answered wherever GET is, by the same headers: RFC 9110 section 9.3.2."""

import re
from contextlib import closing
from http.client import HTTPConnection
from urllib.parse import urlsplit

import httpx2
from fastapi.routing import iter_route_contexts

from specimen.factories import create
from specimen.main import app
from timberframe.testing import ALICE, ServerProcess
from timberframe.testing.databases import connections_taken

GZIP = {"Accept-Encoding": "gzip"}
CHANGING = ("x-request-id", "content-security-policy")  # which has a nonce on the docs pages


def paths_to_get() -> set[str]:
    return {
        re.sub("{[^}]*}", "1", context.path_format)
        for context in iter_route_contexts(app.routes)
        if context.path_format and "GET" in (context.methods or ())
    }


async def test_head_has_the_headers_of_get(alice: httpx2.AsyncClient) -> None:
    await create(alice, description="ä" * 2000)
    paths = paths_to_get() | {"/api/v1/products/?limit=1", "/api/docs/assets/favicon.png"}
    assert len(paths) > 15
    for path in paths | {"/nothing", "/api/v1/products/999", "/api/v1/users"}:
        for headers in ({}, GZIP, {"If-None-Match": '"1"'}, {"If-Match": '"9"'}):
            url = f"http://testserver{path}"
            with_body, answer = [
                await alice.request(method, url, headers=headers) for method in ("GET", "HEAD")
            ]
            for each in (with_body, answer):
                for name in CHANGING:
                    del each.headers[name]
            assert answer.status_code == with_body.status_code, path
            assert answer.headers == with_body.headers, path
            assert answer.content == b""


async def test_head_of_an_export_makes_none_of_it(
    alice: httpx2.AsyncClient,
) -> None:
    for _ in range(app.state.transfer_slots.exports.free + 1):
        assert (await alice.head("/products/export")).status_code == 200
    assert connections_taken(app.state.database) == 0


async def test_head_of_what_cannot_be_read_is_refused(alice: httpx2.AsyncClient) -> None:
    for path in ("/auth/login", "/products/import"):
        assert (await alice.head(path)).status_code == 405


def test_served_head_is_as_long_as_get(server: ServerProcess) -> None:
    with closing(HTTPConnection(urlsplit(server.url).netloc, timeout=30)) as connection:
        for path in ("/health", "/api/v1/users/me", "/api/v1/products/export", "/api/docs"):
            lengths = []
            for method in ("HEAD", "GET", "HEAD"):  # on one connection: nothing is left over
                connection.request(method, path, headers=ALICE.headers)
                answer = connection.getresponse()
                assert (answer.status, bool(answer.read())) == (200, method == "GET")
                lengths.append(answer.headers["content-length"])
            assert len(set(lengths)) == 1
