"""The table of an application's routes: who may call each, what it takes and what it shows.

An application states the rows of its resources in their test modules, as `RESOURCE`, and its other
routes as `ROUTES` in `tests/routes.py`, or where `[tool.timberframe] routes` says. The checks hold
for every row, and one of them for there being a row for every route. Rows of a second version are
those of the first with another prefix: `replace(PRODUCTS, prefix="/api/v2")`.
"""

import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import import_module
from typing import Any, Protocol, cast

import httpx2

from timberframe.crud import CRUDBase
from timberframe.jobs.queue import insert_job
from timberframe.jobs.schemas import Job
from timberframe.testing import subject
from timberframe.testing.cast import ADMIN, ALICE, Person, bring_back, client_of

Body = dict[str, Any]

CALLERS = ("anonymous", "bad token", "expired token", "owner", "stranger", "disabled", "admin")
WRITES = ("PUT", "PATCH", "DELETE")
# What a row may show that no body takes, without a word in the table.
DECIDED = frozenset({"id", "owner_id", "created_at", "updated_at"})
# What the answer of a list has beside the fields of its rows.
PAGE = frozenset({"items", "total", "total_is", "page", "size", "next_cursor"})


@dataclass(frozen=True)
class Access:
    """Who may call a route: the status of each refusal, or None for whom it answers.

    `owner` is the user whose row or account it is, `stranger` another one; a superuser may always.
    `no_account` is for a token that is wrong or whose account is disabled.
    """

    anonymous: int | None = 401
    no_account: int | None = 401
    owner: int | None = None
    stranger: int | None = None

    def statuses(self, success: int) -> dict[str, int]:
        refusals = {
            "anonymous": self.anonymous,
            "bad token": self.no_account,
            "expired token": self.no_account,
            "owner": self.owner,
            "stranger": self.stranger,
            "disabled": self.no_account,
            "admin": None,
        }
        return {caller: refusal or success for caller, refusal in refusals.items()}


PUBLIC = Access(anonymous=None, no_account=None)  # credentials are not even looked at
EVERYBODY = Access(anonymous=None)
SIGNED_IN = Access()
OWNER = Access(stranger=403)
HIDDEN_OWNER = Access(stranger=404)  # whose row does not exist for others
SUPERUSER = Access(owner=403, stranger=403)


class Create(Protocol):
    async def __call__(self, writer: httpx2.AsyncClient, **changes: Any) -> Body: ...


Make = Callable[[Mapping[str, int]], Awaitable[int]]


@dataclass(frozen=True)
class Route:
    """A row of the table. `path` is written as in the OpenAPI document, below the prefix.

    `json` is a body that it takes, or makes one, where each must be new. `sends` are further
    arguments of the request, as `httpx2` takes them. A body has the fields of `json` and those in
    `takes`, and no others. `shows` is all keys of its answer, except those within `free_form`,
    whose values are any JSON. A row that is not `is_versioned` has no `ETag`, and its changes have
    no preconditions. `makes` has what makes a row for a parameter of the path that no resource has,
    given the ids of those before it.
    """

    method: str
    path: str
    access: Access
    success: int = 200
    json: Body | Callable[[], Body] | None = None
    sends: Mapping[str, Any] = field(default_factory=dict)
    takes: frozenset[str] = frozenset()
    shows: frozenset[str] = frozenset()
    free_form: frozenset[str] = frozenset()
    is_versioned: bool = True
    makes: Mapping[str, Make] = field(default_factory=dict)
    prefix: str | None = None  # `API_V1_PREFIX`, unless it is of another version or of none
    resource: "Resource | None" = None

    @property
    def full_path(self) -> str:
        return _below(self.prefix, self.path)

    @property
    def label(self) -> str:
        return f"{self.method} {self.full_path}"

    @property
    def parameters(self) -> list[str]:
        return [part.partition("}")[0] for part in self.path.split("{")[1:]]

    def url(self, ids: Mapping[str, object]) -> str:
        return f"http://testserver{self.full_path}".format(**ids)

    def operation_in(self, document: Body) -> Body:
        return cast(Body, document["paths"][self.full_path][self.method.lower()])

    def body_in(self, document: Body) -> Body | None:
        """The schema of its body in the OpenAPI document, if it takes JSON."""
        return _json_schema(self.operation_in(document).get("requestBody", {}))

    def answer_in(self, document: Body) -> Body | None:
        """The same of its answer."""
        return _json_schema(self.operation_in(document)["responses"][str(self.success)])

    async def ids(self, owner: httpx2.AsyncClient, *, is_hidden: bool = False) -> dict[str, int]:
        """What its path names: alice's account, a job that waits, and rows of the owner's."""
        ids: dict[str, int] = {}
        for parameter in self.parameters:
            if parameter == "user_id":
                await bring_back(ALICE)
                ids[parameter] = ALICE.id
                continue
            if parameter == "job_id":
                ids[parameter] = await new_job()
                continue
            if make := self.makes.get(parameter):
                ids[parameter] = await make(ids)
                continue
            resource = next(each for each in resources() if each.parameter == parameter)
            changes = resource.hiding if is_hidden else {}
            async with client_of(ADMIN) as admin:
                writer = admin if resource.is_written_by_superusers else owner
                ids[parameter] = (await resource.create(writer, **changes))["id"]
        return ids

    async def valid(self, person: Person) -> dict[str, Any]:
        """What this person, or a superuser where they may not, sends to it."""
        sent = dict(self.sends)
        if self.json is not None:
            sent["json"] = self.json() if callable(self.json) else self.json
        elif self.resource and self.method in ("POST", "PUT", "PATCH"):
            needs_admin = self.resource.is_written_by_superusers
            async with client_of(ADMIN if needs_admin else person) as writer:
                sent["json"] = await self.resource.body_for(self.method, writer)
        return sent


@dataclass(frozen=True)
class Policy:
    reads: Access  # of a list
    reads_row: Access
    writes: Access
    creates: Access


POLICIES = {
    "owner": Policy(SIGNED_IN, HIDDEN_OWNER, HIDDEN_OWNER, SIGNED_IN),
    "public-read": Policy(EVERYBODY, EVERYBODY, OWNER, SIGNED_IN),
    "published": Policy(EVERYBODY, EVERYBODY, SUPERUSER, SUPERUSER),
    "superuser": Policy(SUPERUSER, SUPERUSER, SUPERUSER, SUPERUSER),
}


@dataclass(frozen=True)
class Resource:
    """A resource of six routes, and any `further` ones; its test module states it as `RESOURCE`.

    `valid` gives the body of one more row, whatever there is already, and `change` other values of
    the fields that may change. POST, PUT and PATCH take the fields of `valid` and those in `takes`,
    and a row shows them, except where the table says otherwise.
    """

    path: str
    parameter: str  # of its routes: the id of a row
    policy: str
    create: Create
    valid: Callable[[httpx2.AsyncClient], Awaitable[Body]]
    change: Callable[[httpx2.AsyncClient], Awaitable[Body]]
    takes: frozenset[str] = frozenset()  # what a body may have beyond `valid`
    create_only: frozenset[str] = frozenset()  # what only a POST takes
    update_only: frozenset[str] = frozenset()  # what only a PUT and a PATCH take
    read_only: frozenset[str] = frozenset()  # what a row shows that no body takes
    write_only: frozenset[str] = frozenset()  # what a body takes and no row shows
    shown_once: frozenset[str] = frozenset()  # what only the answer of the POST shows
    hiding: Mapping[str, Any] = field(default_factory=dict)  # what hides a row from strangers
    further: tuple[Route, ...] = ()
    prefix: str | None = None  # as that of a `Route`

    @property
    def is_hidden(self) -> bool:
        """Whether there are people who may not read a row."""
        return bool(self.hiding) or self.policy in ("owner", "superuser")

    @property
    def is_written_by_superusers(self) -> bool:
        return POLICIES[self.policy].writes == SUPERUSER

    async def body_for(self, method: str, writer: httpx2.AsyncClient) -> Body:
        body = await self.valid(writer)
        return {n: v for n, v in body.items() if method == "POST" or n not in self.create_only}

    def routes(self) -> Iterator[Route]:
        policy, row = POLICIES[self.policy], f"{self.path}{{{self.parameter}}}"
        document = subject.app().openapi()
        creates = Route("POST", self.path, policy.creates, 201, prefix=self.prefix)
        shown, _ = fields_of(document, creates.answer_in(document), is_deep=True)
        update = (self.takes - self.create_only) | self.update_only
        takes = {"POST": self.takes, "PUT": update, "PATCH": update}
        for method, path, access, success in (
            ("GET", self.path, policy.reads, 200),
            ("POST", self.path, policy.creates, 201),
            ("GET", row, policy.reads_row, 200),
            ("PUT", row, policy.writes, 200),
            ("PATCH", row, policy.writes, 200),
            ("DELETE", row, policy.writes, 204),
        ):
            shows = shown if method == "POST" else shown - self.shown_once
            shows = shows | PAGE if (method, path) == ("GET", self.path) else shows
            yield Route(
                method,
                path,
                access,
                success,
                takes=takes.get(method, frozenset()),
                shows=frozenset(shows) if success != 204 else frozenset(),
                prefix=self.prefix,
                resource=self,
            )
        for route in self.further:
            yield route if self.prefix is None else replace(route, prefix=self.prefix)


def _json_schema(part: Body) -> Body | None:
    return cast(Body | None, part.get("content", {}).get("application/json", {}).get("schema"))


def fields_of(
    document: Body, schema: Body | None, *, is_deep: bool = False
) -> tuple[set[str], bool]:
    """The fields that a schema names, `is_deep` with those of objects in it; whether it has others.

    It has others where an object of whatever keys stands.
    """
    found, has_others = set[str](), False
    parts, seen = [schema] if schema else [], set[str]()
    while parts:
        part = parts.pop()
        if reference := part.get("$ref"):
            if reference not in seen:  # a tree refers to itself
                seen.add(reference)
                parts.append(document["components"]["schemas"][reference.rpartition("/")[2]])
            continue
        options = [each for key in ("anyOf", "oneOf", "allOf") for each in part.get(key, ())]
        properties = part.get("properties", {})
        found |= properties.keys()
        is_closed = options or properties or part.keys() & {"const", "enum"}
        has_others |= not is_closed and part.get("type", "object") == "object"
        parts += options
        if is_deep:
            parts += properties.values()
            parts += [part["items"]] if "items" in part else []
    return found, has_others


def _below(prefix: str | None, path: str) -> str:
    return f"{subject.settings().API_V1_PREFIX if prefix is None else prefix}{path}"


# Those that every application has.
BACKLOG = frozenset({"queued", "oldest_seconds", "ended_per_minute", "failed"})
HEALTH = (
    Route("GET", "/health", PUBLIC, shows=frozenset({"status"}), prefix=""),
    Route("GET", "/health/live", PUBLIC, shows=frozenset({"status"}), prefix=""),
    Route("GET", "/health/ready", PUBLIC, shows=BACKLOG | {"status", "jobs"}, prefix=""),
)
# Those of `jobs_router`, where an application includes it as `/jobs`.
JOB = frozenset(Job.model_fields)
PAYLOAD = frozenset({"payload"})
JOBS = (
    Route("GET", "/jobs/", SUPERUSER, shows=JOB | PAGE, free_form=PAYLOAD),
    Route("GET", "/jobs/{job_id}", SUPERUSER, shows=JOB, free_form=PAYLOAD),
    Route("POST", "/jobs/{job_id}/retry", SUPERUSER, shows=JOB, free_form=PAYLOAD),
    Route("DELETE", "/jobs/{job_id}", SUPERUSER, 204, is_versioned=False),
)


@cache
def _stated() -> tuple[Route | Resource, ...]:
    return (*HEALTH, *subject.stated_routes())


@cache
def resources() -> tuple[Resource, ...]:
    """Those that the project's test modules state, and those in `ROUTES`."""
    root = subject.project().root
    stating = [
        path.relative_to(root).with_suffix("")
        for path in sorted((root / "tests").rglob("test_*.py"))
        if "\nRESOURCE = " in path.read_text()
    ]
    found = [import_module(".".join(path.parts)).RESOURCE for path in stating]
    return (*(each for each in _stated() if isinstance(each, Resource)), *found)


@cache
def routes() -> tuple[Route, ...]:
    """The whole table; those that delete come last, the accounts' last of all."""
    table = [each for each in _stated() if isinstance(each, Route)]
    table += [route for each in resources() for route in each.routes()]
    return tuple(sorted(table, key=lambda r: (r.method == "DELETE", "user_id" in r.parameters)))


def cruds() -> set[CRUDBase[Any, Any, Any]]:
    """Those of the whole application."""
    package = subject.app_package()
    modules = [m for name, m in sys.modules.items() if name.split(".")[0] == package]
    values = [value for module in modules for value in vars(module).values()]
    return {value for value in values if isinstance(value, CRUDBase)}


def said(answer: httpx2.Response) -> str:
    """What was asked and what came: the message of a test that fails."""
    asked = answer.request
    return f"{asked.method} {asked.url.raw_path.decode()}: {answer.status_code} {answer.text}"


async def new_row(path: str, writer: httpx2.AsyncClient) -> Body:
    """One more row of the resource with this path, a superuser's where `writer` may not create."""
    resource = next(each for each in resources() if each.path == path)
    if not resource.is_written_by_superusers:
        return await resource.create(writer)
    async with client_of(ADMIN) as admin:
        return await resource.create(admin)


async def new_job() -> int:
    """The id of a job that no worker knows, so that it waits."""
    job_id = await insert_job(subject.app().state.database, "of_a_check", {"any": "payload"})
    assert job_id
    return job_id


async def own_id(caller: httpx2.AsyncClient) -> int:
    return int((await caller.get("/users/me")).json()["id"])
