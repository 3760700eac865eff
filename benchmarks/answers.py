"""Speed counts only between equal answers: checked before anything is timed.

The first system says which fields count. Others may have more, which only cost them time: whoever
adds a column of their own to products need not add it to the guide's code.
"""

import difflib
import json
import secrets
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import httpx2

from benchmarks.servers import Server
from benchmarks.systems import Row, System
from benchmarks.work import Work, new_product


def check_equal(servers: Sequence[Server], works: Sequence[Work], products: int) -> None:
    """End the run unless all servers answer every piece of work with what the first one has."""
    for work in works:
        able = [server for server in servers if server.system.does(work)]
        for product_id in (1, products // 2, products):
            answers = [_fetch(server, work, product_id) for server in able]
            for server, answer in zip(able[1:], answers[1:], strict=True):
                _compare(able[0], answers[0], server, answer, work)


def _fetch(server: Server, work: Work, product_id: int) -> Any:
    headers = {"Accept-Encoding": "identity"} | work.all_headers(server.token)
    url = server.url + server.system.path(work).format(id=product_id)
    if work.method == "POST":
        headers["Content-Type"] = "application/json"
        body = new_product(f"CHECK-{secrets.token_hex(8)}")
        answer = httpx2.post(url, headers=headers, content=body)
    else:
        answer = httpx2.get(url, headers=headers)
    encoding = answer.headers.get("content-encoding", "identity")
    if not answer.is_success or encoding != headers["Accept-Encoding"]:
        sys.exit(
            f"{server.system.name} answers {work.name} with {answer.status_code}, "
            f"encoded as {encoding}: {answer.text[:500]}"
        )
    return _content(server.system, work, answer.json())


def _content(system: System, work: Work, answer: Any) -> Any:
    """Of a list its rows: what stands around them differs."""
    if isinstance(answer, dict):
        answer = answer.get("items", answer.get("results", answer))
    if isinstance(answer, list):
        return [_comparable(system.plain(row)) for row in answer]
    row = _comparable(system.plain(answer))
    if work.method == "POST":
        return {name: row[name] for name in row if name not in ("id", "sku") and "_at" not in name}
    return row


def _comparable(row: Row) -> Row:
    """Moments to the millisecond, which is all that JavaScript's and Django's JSON know."""
    return {
        name: datetime.fromisoformat(value).isoformat(timespec="milliseconds")
        if name.endswith("_at")
        else value
        for name, value in row.items()
    }


def _compare(first: Server, expected: Any, other: Server, answer: Any, work: Work) -> None:
    if first.system.engine != other.system.engine:
        expected, answer = _without_moments(expected), _without_moments(answer)
    answer = _without_further_fields(answer, expected)
    if expected != answer:
        difference = "\n".join(
            difflib.unified_diff(
                _lines(expected),
                _lines(answer),
                first.system.name,
                other.system.name,
                n=0,
                lineterm="",
            )
        )
        sys.exit(f"{work.name} is not answered alike:\n{difference[:2000]}")


def _without_moments(answer: Any) -> Any:
    """Two databases are not filled at the same moment."""
    if isinstance(answer, list):
        return [_without_moments(row) for row in answer]
    return {name: value for name, value in answer.items() if not name.endswith("_at")}


def _without_further_fields(answer: Any, expected: Any) -> Any:
    """A row without the fields that the expected one has not; a list's rows are in one order."""
    if isinstance(answer, list) and isinstance(expected, list) and len(answer) == len(expected):
        return [_without_further_fields(*rows) for rows in zip(answer, expected, strict=True)]
    if isinstance(answer, dict) and isinstance(expected, dict):
        return {name: value for name, value in answer.items() if name in expected}
    return answer


def _lines(answer: Any) -> list[str]:
    return json.dumps(answer, indent=1, sort_keys=True).splitlines()
