"""`python -m benchmarks.worst_body`: how long everybody waits while one client sends the worst."""

import http.client
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import NamedTuple

from benchmarks import document
from benchmarks.database import OPENERS
from benchmarks.servers import Server, serve
from benchmarks.systems import SYSTEMS

BODY_BYTES = 1024 * 1024  # MAX_BODY_BYTES
QUERY_BYTES = 30 * 1024
TIMES = 10
LEAST_MS = 50  # what nobody should wait longer than
FORM = "application/x-www-form-urlencoded"


class Request(NamedTuple):
    path: str
    body: bytes
    media_type: str = "application/json"


def main() -> None:
    """Print, for each of the worst requests that anybody may send, the slowest of other answers."""
    console = document.new_console()
    secret_key = secrets.token_urlsafe(48)
    [system] = (each for each in SYSTEMS if each.is_ours and each.engine == "SQLite")
    with TemporaryDirectory(prefix="myapi-worst-") as folder, ExitStack() as stack:
        database = stack.enter_context(OPENERS[system.engine](Path(folder), 1, secret_key))
        server = stack.enter_context(serve(system, database, secret_key, Path(folder)))
        for name, request in worst_requests().items():
            status, waits = others_wait(server, request)
            usual, longest = sorted(waits)[len(waits) // 2], max(waits)
            mark = "" if longest < LEAST_MS else "  <- too long"
            console.print(
                f"{name:32} {status}   others wait {longest:6.1f} ms, usually {usual:.1f}{mark}"
            )


def worst_requests() -> Mapping[str, Request]:
    sign_up, sign_in = "/api/v1/users/", "/api/v1/auth/login"
    bodies = {
        "unknown names": filled("{", lambda n: f'"{n:x}":1', "}"),
        "unknown names, as many as may be": filled("{", lambda n: f'"{n:x}":1', "}", most=1_000),
        "names of lists": filled("{", lambda n: f'"{n:x}":[]', "}"),
        "numbers": filled("[", lambda n: "0", "]"),
        "numbers, as many as may be": filled(
            "[", lambda n: "1." + "1" * 90 + "e-300", "]", most=10_000
        ),
        "whole numbers of many digits": filled("[", lambda n: "9" * 400, "]"),
        "objects": filled("[", lambda n: '{"a":1}', "]"),
        "objects, as many as may be": filled("[", lambda n: '{"a":1}', "]", most=5_000),
        "lists in lists": filled("[", lambda n: "[" * 450 + "]" * 450, "]"),
        "one name all the time": filled("{", lambda n: '"a":1', "}"),
        "strings": filled("[", lambda n: '""', "]"),
        "quotes": b'"' * BODY_BYTES,
        "commas and quotes in a string": filled('{"email":"', lambda n: '\\"', '"}'),
        "escapes": filled('{"email":["', lambda n: "\\u0041" * 50, '"]}', between='","'),
        "a long string": filled('{"password":"', lambda n: "a" * 99, '"}'),
    }
    return {
        "nothing else": Request("/health", b""),
        **{f"JSON: {name}": Request(sign_up, body) for name, body in bodies.items()},
        "JSON where one must sign in": Request("/api/v1/products/", bodies["unknown names"]),
        "form: fields": Request(sign_in, filled("", lambda n: f"{n:x}=1", "", between="&"), FORM),
        "form: ampersands": Request(sign_in, b"&" * BODY_BYTES, FORM),
        "form: ampersands, 16 KiB": Request(sign_in, b"&" * 16 * 1024, FORM),
        "query: unknown names": Request(f"/api/v1/products/?{query(lambda n: f'{n:x}=')}", b""),
        "query: tags": Request(f"/api/v1/products/?{query(lambda n: 'tag=a')}", b""),
        "query: tags, as many as may be": Request(
            f"/api/v1/products/?{query(lambda n: f'tag={n}', most=1_000)}", b""
        ),
        "query: empty values of a list": Request(
            f"/api/v1/products/?sku__in={',' * (QUERY_BYTES - 100)}", b""
        ),
    }


def filled(
    before: str,
    piece: Callable[[int], str],
    after: str,
    *,
    between: str = ",",
    most: int = BODY_BYTES,
    size: int = BODY_BYTES,
) -> bytes:
    """As many pieces as fit."""
    left = size - len(before) - len(after)
    pieces: list[str] = []
    for number in count():
        each = piece(number)
        left -= len(each) + len(between)
        if left < 0 or number >= most:
            break
        pieces.append(each)
    return f"{before}{between.join(pieces)}{after}".encode()


def query(piece: Callable[[int], str], *, most: int = QUERY_BYTES) -> str:
    return filled("", piece, "", between="&", most=most, size=QUERY_BYTES).decode()


def others_wait(server: Server, request: Request) -> tuple[int, list[float]]:
    """The status of the answer, and the milliseconds of each probe meanwhile."""
    status = 0
    with probing(server.port) as waits:
        for _ in range(TIMES):
            connection = http.client.HTTPConnection("127.0.0.1", server.port)
            headers = {"Content-Type": request.media_type}
            method = "POST" if request.body else "GET"
            with suppress(BrokenPipeError, ConnectionResetError):  # refused while it was sent
                connection.request(method, request.path, request.body or None, headers)
            with suppress(ConnectionResetError):
                status = connection.getresponse().status
            connection.close()
            time.sleep(0.01)
    return status, waits


@contextmanager
def probing(port: int) -> Iterator[list[float]]:
    waits: list[float] = []
    is_over = Event()

    def probe() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        while not is_over.is_set():
            began = time.perf_counter()
            connection.request("GET", "/health/live")
            connection.getresponse().read()
            waits.append((time.perf_counter() - began) * 1000)
            time.sleep(0.001)
        connection.close()

    prober = Thread(target=probe)
    prober.start()
    try:
        yield waits
    finally:
        is_over.set()
        prober.join()


if __name__ == "__main__":
    main()
