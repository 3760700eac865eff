"""What the tests of all routes need to know of a resource, and values that no field takes."""

import pkgutil
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import httpx2
from timberframe.crud.base import CRUDBase

import app.crud

Body = dict[str, Any]
Route = tuple[str, str]

WRITES = ("PUT", "PATCH", "DELETE")

# By policy: who reads a row, who writes one and who creates one.
_POLICIES = {
    "owner": ("owner", "owner", "signed in"),
    "public-read": ("everybody", "owner", "signed in"),
    "published": ("everybody", "superusers", "superusers"),
    "superuser": ("superusers", "superusers", "superusers"),
}


def _statuses(policy: str) -> dict[Route, tuple[int, ...]]:
    """What each route answers to an anonymous caller, a bad token, an expired one, the owner, a
    stranger, a disabled account and a superuser.
    """
    readers, writers, creators = _POLICIES[policy]

    def row(success: int, *, anonymous: int, owner: int, stranger: int) -> tuple[int, ...]:
        return (anonymous, 401, 401, owner, stranger, 401, success)

    def change(success: int) -> tuple[int, ...]:
        if writers == "superusers":
            return row(success, anonymous=401, owner=403, stranger=403)
        # Who may read the row is told that they may not write it; to others it does not exist.
        stranger = 403 if readers == "everybody" else 404
        return row(success, anonymous=401, owner=success, stranger=stranger)

    signed_in = 403 if readers == "superusers" else 200
    create = 403 if creators == "superusers" else 201
    anonymous = 200 if readers == "everybody" else 401
    item = 404 if readers == "owner" else signed_in
    return {
        ("GET", ""): row(200, anonymous=anonymous, owner=signed_in, stranger=signed_in),
        ("POST", ""): row(201, anonymous=401, owner=create, stranger=create),
        ("GET", "{id}"): row(200, anonymous=anonymous, owner=signed_in, stranger=item),
        ("PUT", "{id}"): change(200),
        ("PATCH", "{id}"): change(200),
        ("DELETE", "{id}"): change(204),
    }


class Create(Protocol):
    async def __call__(self, writer: httpx2.AsyncClient, **changes: Any) -> Body: ...


@dataclass(frozen=True)
class Resource:
    """A resource of six routes; its test module states one, as `RESOURCE`."""

    path: str
    parameter: str  # of its routes: the id of a row
    policy: str
    create: Create
    valid: Callable[[httpx2.AsyncClient], Awaitable[Body]]
    change: Callable[[httpx2.AsyncClient], Awaitable[Body]]
    fixed: frozenset[str] = frozenset()  # what only a POST takes

    @property
    def is_hidden(self) -> bool:
        """Whether there are people who may not read a row."""
        return _POLICIES[self.policy][0] != "everybody"

    @property
    def is_written_by_superusers(self) -> bool:
        return _POLICIES[self.policy][1] == "superusers"

    async def body_for(self, method: str, writer: httpx2.AsyncClient) -> Body:
        body = await self.valid(writer)
        return {n: v for n, v in body.items() if method == "POST" or n not in self.fixed}

    @property
    def statuses(self) -> dict[tuple[str, str], tuple[int, ...]]:
        parameter = f"{{{self.parameter}}}"
        return {
            (method, f"/api/v1{self.path}{parameter if below else ''}"): row
            for (method, below), row in _statuses(self.policy).items()
        }


def resources() -> list[Resource]:
    """Those of all test modules beside this one."""
    modules = sorted(Path(__file__).parent.glob("test_*.py"))
    stating = [path.stem for path in modules if "\nRESOURCE = " in path.read_text()]
    return [import_module(f"tests.api.{name}").RESOURCE for name in stating]


def cruds() -> Iterator[CRUDBase[Any, Any, Any]]:
    """Of all resources."""
    for module in pkgutil.iter_modules(app.crud.__path__, "app.crud."):
        for value in vars(import_module(module.name)).values():
            if isinstance(value, CRUDBase):
                yield value


def said(answer: httpx2.Response) -> str:
    """What was asked and what came: the message of a test that fails."""
    asked = answer.request
    return f"{asked.method} {asked.url.raw_path.decode()}: {answer.status_code} {answer.text}"


async def own_id(caller: httpx2.AsyncClient) -> int:
    return int((await caller.get("/users/me")).json()["id"])


def _nested(depth: int) -> list[Any]:
    document: list[Any] = []
    for _ in range(depth - 1):
        document = [document]
    return document


# None is wrong too, where a field must have a value.
WRONG_LINES: tuple[object, ...] = ("", " ", "x" * 201, "a\x00b", "a\nb", "\u202e", 1, True, [], {})
WRONG_TEXTS: tuple[object, ...] = ("x" * 10_001, "a\x00b", "\u202e", "\x1b[31m", 1, True, [], {})
WRONG_WHOLES: tuple[object, ...] = (
    1.5,
    "1",
    "",
    True,
    2**53,
    -(2**53),
    2**63,
    10**399,
    1e300,
    [],
    {},
)
WRONG_BOOLEANS: tuple[object, ...] = ("true", "", 0, 1, [], {})
WRONG_MONEY: tuple[object, ...] = (
    "-1",
    "1.999",
    "1e3",
    "10000000000",
    "NaN",
    "",
    0.001,
    -0.01,
    1e10,
    True,
    [],
    {},
)
WRONG_NUMBERS: tuple[object, ...] = (
    "1.0000001",
    "1e3",
    "1000000000",
    "NaN",
    "",
    "+1",
    1e-7,
    1e9,
    True,
    [],
    {},
)
WRONG_DAYS: tuple[object, ...] = (
    "2026-02-30",
    "2026-2-3",
    "20260203",
    "0000-01-01",
    "0001-01-01",
    "9999-12-31",
    "",
    20260203,
    True,
    [],
    {},
)
WRONG_MOMENTS: tuple[object, ...] = (
    *("2026-11-24", "2026-11-24T12:00:00", "2026-13-01T00:00:00Z", "1764000000", "", "now"),
    *("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", 1764000000, True, [], {}),
)
WRONG_UUIDS: tuple[object, ...] = (
    "",
    "x",
    "0" * 32,
    f"{{{'0' * 8}-0000-0000-0000-{'0' * 12}}}",
    1,
    True,
    [],
    {},
)
WRONG_DOCUMENTS: tuple[object, ...] = ("text", "", "[]", 1, True, ["x" * 10_000], _nested(17))
WRONG_IDS: tuple[object, ...] = (0, -1, 1.5, "1", 10**6, 2**63, 10**399, True, [], {})
