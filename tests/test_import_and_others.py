"""While a served process checks a file, it answers others."""

import http.client
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import httpx2
import pytest

from tests.conftest import ALICE
from tests.process import ServerProcess, serving

pytestmark = pytest.mark.seconds(10)

# Rows that are refused at once, so that nearly all of the time is the check's.
CSV = b"sku,name,price\n" + b"a\n" * 1_200_000
# What stands before the command to take the guard away.
UNGUARDED = [
    sys.executable,
    "-c",
    "import runpy, sys; sys.setswitchinterval = lambda seconds: None; del sys.argv[0];"
    "runpy.run_path(sys.argv[0], run_name='__main__')",
]


def longest_wait(server: ServerProcess) -> float:
    """Of probes on several connections, while a file is checked."""
    netloc = server.url.removeprefix("http://")
    statuses: list[int] = []

    def send_file() -> None:
        answer = httpx2.post(
            f"{server.url}/api/v1/products/import?mode=skip&dry_run=true",
            content=CSV,
            headers=ALICE.headers | {"Content-Type": "text/csv"},
            timeout=60,
        )
        statuses.append(answer.status_code)

    connections = [http.client.HTTPConnection(netloc, timeout=30) for _ in range(6)]
    waits: list[float] = []
    sending = threading.Thread(target=send_file)
    sending.start()
    while sending.is_alive():
        for connection in connections:
            began = time.monotonic()
            connection.request("GET", "/health/live")
            assert connection.getresponse().read()
            waits.append(time.monotonic() - began)
        time.sleep(0.001)
    sending.join()
    for connection in connections:
        connection.close()
    assert statuses == [200]
    return max(waits)


def test_others_are_answered_while_a_file_is_checked(sqlite_template: Path, tmp_path: Path) -> None:
    database = tmp_path / "myapi.db"
    database.write_bytes(sqlite_template.read_bytes())

    def serve_and_wait(before: Sequence[str] = ()) -> float:
        with serving(before=before, DATABASE_URL=f"sqlite:///{database}") as server:
            return longest_wait(server)

    assert serve_and_wait() < serve_and_wait(UNGUARDED) / 2
