"""The pieces of work that are timed, and their requests."""

import random
from dataclasses import dataclass, field

RANDOM_IDS = 10_000


@dataclass(frozen=True)
class Work:
    """One kind of GET request; `{id}` in its path stands for a random product."""

    name: str
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    needs_token: bool = False

    def all_headers(self, token: str) -> dict[str, str]:
        return self.headers | ({"Authorization": f"Bearer {token}"} if self.needs_token else {})

    def requests(self, products: int, token: str) -> list[bytes]:
        """What goes over the wire, ready made so that the load generator spends nothing on it."""
        choose = random.Random(0)
        ids = [choose.randint(1, products) for _ in range(RANDOM_IDS)]
        headers = {"Host": "127.0.0.1"} | self.all_headers(token)
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        paths = [self.path.format(id=each) for each in (ids if "{id}" in self.path else ids[:1])]
        return [f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode() for path in paths]


ITEM = "/api/v1/products/{id}"
LIST = "/api/v1/products/?limit=100"
ME = "/api/v1/users/me"

WORK = [
    Work(f"GET {ITEM}", ITEM),
    Work(f"GET {LIST}", LIST),
    Work(f"GET {LIST} (gzip)", LIST, {"Accept-Encoding": "gzip"}),
    Work(f"GET {ME} (bearer token)", ME, needs_token=True),
]
