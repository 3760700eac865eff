"""Speed counts only between equal answers: checked before anything is timed."""

import difflib
import json
import re
import sys
from collections.abc import Sequence
from typing import Any

import httpx2

from benchmarks.servers import Server
from benchmarks.work import Work


def check_equal(servers: Sequence[Server], work: Sequence[Work], products: int) -> None:
    """End the run unless all servers answer every piece of work with the same content."""
    for each in work:
        for product_id in (1, products // 2, products):
            answers = [_fetch(server, each, product_id) for server in servers]
            for server, answer in zip(servers[1:], answers[1:], strict=True):
                _compare(servers[0], answers[0], server, answer, each)


def _fetch(server: Server, work: Work, product_id: int) -> Any:
    headers = {"Accept-Encoding": "identity"} | work.all_headers(server.token)
    answer = httpx2.get(server.url + work.path.format(id=product_id), headers=headers)
    encoding = answer.headers.get("content-encoding", "identity")
    if not answer.is_success or encoding != headers["Accept-Encoding"]:
        sys.exit(
            f"{server.system.name} answers {work.name} with {answer.status_code}, "
            f"encoded as {encoding}: {answer.text[:500]}"
        )
    content = answer.json()
    # Of a list its rows: the guide's answer has less around them, and counts further.
    return content.get("items", content)


def _compare(first: Server, expected: Any, other: Server, answer: Any, work: Work) -> None:
    if first.system.engine != other.system.engine:
        expected, answer = _without_moments(expected), _without_moments(answer)
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
    """Zeros for the digits of timestamps: two databases are not filled at the same moment."""
    if isinstance(answer, list):
        return [_without_moments(item) for item in answer]
    if isinstance(answer, dict):
        return {
            name: re.sub(r"\d", "0", str(value))
            if name.endswith("_at")
            else _without_moments(value)
            for name, value in answer.items()
        }
    return answer


def _lines(answer: Any) -> list[str]:
    return json.dumps(answer, indent=1, sort_keys=True).splitlines()
