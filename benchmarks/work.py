"""The pieces of work that are timed, and their requests."""

import json
import random
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count, cycle

RANDOM_IDS = 10_000

ITEM = "/api/v1/products/{id}"
LIST = "/api/v1/products/?limit=100"
CREATE = "/api/v1/products/"
ME = "/api/v1/users/me"


@dataclass(frozen=True)
class Work:
    """One kind of request; `{id}` in its path stands for a random product."""

    key: str
    name: str
    path: str
    method: str = "GET"
    headers: dict[str, str] = field(default_factory=dict)
    needs_token: bool = False

    def all_headers(self, token: str) -> dict[str, str]:
        return self.headers | ({"Authorization": f"Bearer {token}"} if self.needs_token else {})

    def requests(self, path: str, products: int, token: str) -> Iterator[bytes]:
        """What goes over the wire, made so that the load generator spends little on it."""
        headers = {"Host": "127.0.0.1"} | self.all_headers(token)
        if self.method == "POST":
            return _posts(path, headers)
        choose = random.Random(0)
        ids = [choose.randint(1, products) for _ in range(RANDOM_IDS)]
        paths = [path.format(id=each) for each in (ids if "{id}" in path else ids[:1])]
        return cycle([f"GET {each} HTTP/1.1\r\n{_lines(headers)}\r\n".encode() for each in paths])


def _posts(path: str, headers: dict[str, str]) -> Iterator[bytes]:
    """Each with a sku that was never sent before."""
    before, after = new_product("%").split("%")
    run = secrets.token_hex(6)
    length = len(new_product(f"{run}-00000000"))
    headers = {**headers, "Content-Type": "application/json", "Content-Length": str(length)}
    head = f"POST {path} HTTP/1.1\r\n{_lines(headers)}\r\n"
    return (f"{head}{before}{run}-{number:08}{after}".encode() for number in count())


def new_product(sku: str) -> str:
    return json.dumps(
        {
            "sku": sku,
            "name": "Folding Oak Chair",
            "description": "A chair that folds.",
            "price": "19.99",
            "currency": "EUR",
            "stock": 7,
            "category": "chairs",
            "tags": ["oak", "sale"],
        }
    )


def _lines(headers: dict[str, str]) -> str:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items())


READS = [
    Work("item", "GET /products/{id}", ITEM),
    Work("list", "GET /products/?limit=100", LIST),
    Work("gzip", "GET /products/?limit=100, gzip", LIST, headers={"Accept-Encoding": "gzip"}),
    Work("me", "GET /users/me, bearer token", ME, needs_token=True),
]
# Timed after all reads, so that these find the tables as they were filled.
WRITES = [
    Work("create", "POST /products/, bearer token", CREATE, method="POST", needs_token=True),
]
WORK = [*READS, *WRITES]
