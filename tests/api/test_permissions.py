"""Who may do what: one table of every route and every kind of caller, and what leaks to nobody."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import count
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from fastapi import Request
from fastapi.routing import iter_route_contexts
from sqlalchemy import select, update
from timberframe.data.base import Base
from timberframe.data.session import Database
from timberframe.http import dependencies
from timberframe.http.idempotency import give_kept_answer
from timberframe.http.routing import RouteIndex

from app.core.config import settings
from app.main import app
from app.models import User
from tests.api.cases import Resource, resources, said
from tests.api.test_products import create
from tests.conftest import ADMIN, ALICE, BOB, Person, client_of, tokens

pytestmark = pytest.mark.all_resources

CAROL = Person(4, "carol")  # signs up and is disabled, where a test needs such a person
SIGN_UP = {"email": CAROL.email, "username": CAROL.name, "password": CAROL.password}
ORIGIN = "http://testserver"

Route = tuple[str, str]
CALLERS = ("anonymous", "bad token", "expired token", "owner", "stranger", "disabled", "admin")

RESOURCES = resources()
MOVEMENTS = "/api/v1/products/{product_id}/stock-movements"

# The path's user is alice, and so is the owner of its product. The deletions come last. Resources
# that state themselves stand between.
TABLE: dict[Route, tuple[int, ...]] = {
    ("GET", "/health"): (200, 200, 200, 200, 200, 200, 200),
    ("GET", "/health/live"): (200, 200, 200, 200, 200, 200, 200),
    ("GET", "/health/ready"): (200, 200, 200, 200, 200, 200, 200),
    ("POST", "/api/v1/auth/login"): (200, 200, 200, 200, 200, 200, 200),
    ("GET", "/api/v1/users/"): (401, 401, 401, 403, 403, 401, 200),
    ("POST", "/api/v1/users/"): (201, 201, 201, 201, 201, 201, 201),
    ("GET", "/api/v1/users/me"): (401, 401, 401, 200, 200, 401, 200),
    ("PUT", "/api/v1/users/me"): (401, 401, 401, 200, 200, 401, 200),
    ("PATCH", "/api/v1/users/me"): (401, 401, 401, 200, 200, 401, 200),
    ("GET", "/api/v1/users/{user_id}"): (401, 401, 401, 200, 403, 401, 200),
    ("PATCH", "/api/v1/users/{user_id}"): (401, 401, 401, 403, 403, 401, 200),
    ("GET", "/api/v1/categories/counts"): (200, 200, 200, 200, 200, 200, 200),
    ("GET", "/api/v1/products/"): (200, 401, 401, 200, 200, 401, 200),
    ("POST", "/api/v1/products/"): (401, 401, 401, 201, 201, 401, 201),
    ("POST", "/api/v1/products/import"): (401, 401, 401, 200, 200, 401, 200),
    ("GET", "/api/v1/products/export"): (200, 401, 401, 200, 200, 401, 200),
    ("GET", "/api/v1/products/{product_id}"): (200, 401, 401, 200, 200, 401, 200),
    ("PUT", "/api/v1/products/{product_id}"): (401, 401, 401, 200, 403, 401, 200),
    ("PATCH", "/api/v1/products/{product_id}"): (401, 401, 401, 200, 403, 401, 200),
    ("GET", MOVEMENTS): (401, 401, 401, 200, 403, 401, 200),
    ("POST", MOVEMENTS): (401, 401, 401, 201, 403, 401, 201),
    ("POST", "/api/v1/products/{product_id}/restore"): (401, 401, 401, 200, 403, 401, 200),
    ("POST", "/api/v1/send-notification/"): (401, 401, 401, 403, 403, 401, 200),
    **{route: row for resource in RESOURCES for route, row in resource.statuses.items()},
    ("DELETE", "/api/v1/products/{product_id}"): (401, 401, 401, 204, 403, 401, 204),
    ("DELETE", "/api/v1/users/{user_id}"): (401, 401, 401, 403, 403, 401, 204),
}
OUTSIDE_THE_SCHEMA = {"/api/openapi.json", "/api/docs", "/api/redoc", "/api/redoc/redoc.js"}

# For the values that no two rows share.
NUMBERS = count()


def new_user() -> dict[str, Any]:
    name = f"new{next(NUMBERS)}"
    return {"json": SIGN_UP | {"email": f"{name}@example.com", "username": name}}


def new_product() -> dict[str, Any]:
    return {"json": {"sku": f"NEW-{next(NUMBERS)}", "name": "Lamp", "price": 1}}


VALID: dict[Route, dict[str, Any] | Callable[[], dict[str, Any]]] = {
    ("POST", "/api/v1/auth/login"): {"data": {"username": ALICE.name, "password": ALICE.password}},
    ("POST", "/api/v1/users/"): new_user,
    ("PUT", "/api/v1/users/me"): {"json": {"full_name": "New Name"}},
    ("PATCH", "/api/v1/users/me"): {"json": {"full_name": "New Name"}},
    ("PATCH", "/api/v1/users/{user_id}"): {"json": {"full_name": "New Name"}},
    ("POST", "/api/v1/products/"): new_product,
    ("POST", "/api/v1/products/import"): {
        "content": "sku,name,price",
        "headers": {"Content-Type": "text/csv"},
    },
    ("PUT", "/api/v1/products/{product_id}"): {"json": {"name": "Lamp"}},
    ("PATCH", "/api/v1/products/{product_id}"): {"json": {"name": "Lamp"}},
    ("POST", MOVEMENTS): {"json": {"delta": 5, "reason": "Delivery"}},
    ("POST", "/api/v1/send-notification/"): {"params": {"email": "somebody@example.com"}},
}

BOTH = {"id", "is_active", "created_at", "updated_at"}
USER = BOTH | {"email", "username", "full_name"}
PRODUCT = BOTH | {"sku", "name", "description", "price", "currency", "stock", "owner_id"}
PRODUCT |= {"category", "tags"}
MOVEMENT = {"product_id", "delta", "reason", "moved_by_id"}
REPORT = {"mode", "dry_run", "created", "updated", "unchanged", "refused", "errors"}
REPORT |= {"errors_total"}
PAGE = {"items", "total", "total_is", "page", "size", "next_cursor"}
PROBLEM = {"type", "title", "status", "detail", "code", "request_id"}
KEYS = {
    "/health": {"status"},
    "/api/v1/auth": {"access_token", "token_type", "expires_in"},
    "/api/v1/users": USER | PAGE,
    "/api/v1/categories/counts": {"items", "category", "products"},
    "/api/v1/products": PRODUCT | PAGE | MOVEMENT | REPORT,
    "/api/v1/send-notification": {"message"},
}


@pytest.fixture(autouse=True)
def outbox(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "MAIL_FOLDER", tmp_path)


def test_table_names_every_route_and_no_other() -> None:
    routes = {
        (method, context.path_format)
        for context in iter_route_contexts(app.routes)
        if getattr(context, "include_in_schema", False)
        for method in context.methods or ()
    }
    assert set(TABLE) == routes


def test_only_the_documentation_is_outside_the_schema() -> None:
    routes = [route for route in app.routes if not isinstance(route, RouteIndex)]
    contexts = iter_route_contexts(routes)
    hidden = {c.path for c in contexts if not getattr(c, "include_in_schema", False)}
    assert hidden == OUTSIDE_THE_SCHEMA | {"/api/docs/assets"}


async def headers_of(
    caller: str, admin: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    match caller:
        case "bad token":
            header, payload, signature = tokens.create(ALICE.id).split(".")
            return {"Authorization": f"Bearer {header}.{payload}.{signature[::-1]}"}
        case "expired token":
            expired = replace(tokens, lifetime=timedelta(minutes=-1)).create(ALICE.id)
            return {"Authorization": f"Bearer {expired}"}
        case "disabled":
            await admin.post("/users/", json=SIGN_UP)
            answer = await admin.patch(f"/users/{CAROL.id}", json={"is_active": False})
            assert answer.json()["is_active"] is False
            return CAROL.headers
    people = {"owner": ALICE, "stranger": BOB, "admin": ADMIN}
    return people[caller].headers if caller in people else {}


def url_of(route: Route, **ids: object) -> str:
    return ORIGIN + route[1].format(**ids)


def resource_of(route: Route) -> Resource | None:
    return next((resource for resource in RESOURCES if route in resource.statuses), None)


async def ids_of(owner: httpx2.AsyncClient, route: Route, **changes: Any) -> dict[str, int]:
    """What the path of a route may name: alice, and a row of the owner's, which a list has too."""
    ids = {"user_id": ALICE.id}
    if resource := resource_of(route):
        async with client_of(ADMIN) as admin:
            writer = admin if resource.is_written_by_superusers else owner
            ids[resource.parameter] = (await resource.create(writer))["id"]
    elif "/products/" in route[1]:
        ids["product_id"] = (await create(owner, sku=f"P-{uuid4().hex}", **changes))["id"]
    return ids


async def valid(route: Route, person: Person) -> dict[str, Any]:
    """What this person, or a superuser where they may not, sends to a route."""
    if resource := resource_of(route):
        async with client_of(ADMIN if resource.is_written_by_superusers else person) as writer:
            return {"json": await resource.body_for(route[0], writer)}
    sent = VALID.get(route, {})
    return sent() if callable(sent) else dict(sent)


def known_keys(route: Route) -> set[str]:
    """Of a resource that states itself, what is documented: its own tests know each field of it."""
    if resource := resource_of(route):
        document = app.openapi()
        created = document["paths"][f"/api/v1{resource.path}"]["post"]["responses"]["201"]
        name = created["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        return PAGE | set(document["components"]["schemas"][name]["properties"])
    return next(keys for prefix, keys in KEYS.items() if route[1].startswith(prefix))


def content_of(answer: httpx2.Response) -> Any:
    is_json = "json" in answer.headers.get("content-type", "")
    return answer.json() if answer.content and is_json else {}


def keys_in(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from keys_in(item)


async def test_every_route_answers_every_caller_as_the_table_says(
    client: httpx2.AsyncClient,
    alice: httpx2.AsyncClient,
    admin: httpx2.AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    headers = {caller: await headers_of(caller, admin, monkeypatch) for caller in CALLERS}
    wrong, unknown = [], []
    for route, row in TABLE.items():
        ids: dict[str, int] = {}
        bodies: dict[Person, dict[str, Any]] = {}
        for caller, expected in zip(CALLERS, row, strict=True):
            sender = {"stranger": BOB, "admin": ADMIN}.get(caller, ALICE)
            ids = ids or await ids_of(alice, route)
            sent = bodies[sender] = bodies.get(sender) or await valid(route, sender)
            sent = sent | {"headers": headers[caller] | sent.get("headers", {})}
            answer = await client.request(route[0], url_of(route, **ids), **sent)
            if answer.status_code != expected:
                wrong.append(f"{caller}: {' '.join(route)}: not {expected}, but {said(answer)}")
            known = known_keys(route) if answer.is_success else PROBLEM
            keys = sorted(set(keys_in(content_of(answer))) - known)
            unknown += [f"{caller}: {' '.join(route)} shows {key}" for key in keys]
            assert "$argon2" not in answer.text
            if answer.is_success and route[0] != "GET":
                # The row may be gone, and a unique value is taken.
                ids, bodies = {}, {}
    assert wrong == []
    assert unknown == []


async def rows(database: Database) -> list[Any]:
    """All that is stored: equal before and after means that nothing happened."""
    async with database.reading() as db:
        tables = Base.metadata.sorted_tables
        return [
            (await db.execute(select(table).order_by(*table.primary_key))).all() for table in tables
        ]


def columns() -> set[str]:
    """Of all models, by both their names."""
    mapped = {key for mapper in Base.registry.mappers for key, _ in mapper.columns.items()}
    return mapped | {c.name for table in Base.metadata.tables.values() for c in table.columns}


NO_COLUMNS = {"password", "current_password", "user_id", "owner", "version", "role", "__class__"}
PRODUCT_FIELDS = {"sku", "name", "description", "price", "currency", "stock", "is_active"}
PRODUCT_FIELDS |= {"category", "tags"}
TAKEN: dict[Route, set[str]] = {
    ("POST", "/api/v1/users/"): {"email", "username", "full_name", "password"},
    ("PUT", "/api/v1/users/me"): {"email", "full_name", "password", "current_password"},
    ("PATCH", "/api/v1/users/me"): {"email", "full_name", "password", "current_password"},
    ("PATCH", "/api/v1/users/{user_id}"): {"email", "full_name", "is_active", "is_superuser"},
    ("POST", "/api/v1/products/"): PRODUCT_FIELDS,
    ("PUT", "/api/v1/products/{product_id}"): PRODUCT_FIELDS,
    ("PATCH", "/api/v1/products/{product_id}"): PRODUCT_FIELDS,
    ("POST", MOVEMENTS): {"delta", "reason"},
}


async def test_column_that_a_route_does_not_take_is_refused(
    alice: httpx2.AsyncClient, admin: httpx2.AsyncClient, database: Database
) -> None:
    changes = [
        (method, f"/api/v1{resource.path}{below}")
        for resource in RESOURCES
        for method, below in (
            ("POST", ""),
            ("PUT", f"{{{resource.parameter}}}"),
            ("PATCH", f"{{{resource.parameter}}}"),
        )
    ]
    for route in (*TAKEN, *changes):
        url = url_of(route, **await ids_of(alice, route))
        body = (await valid(route, ADMIN))["json"]
        before = await rows(database)
        names = sorted((columns() | NO_COLUMNS) - TAKEN.get(route, body.keys()))
        for start in range(0, len(names), 20):
            some = names[start : start + 20]
            # No column has this value, which a PUT could send back.
            answer = await admin.request(route[0], url, json=body | dict.fromkeys(some, -2))
            errors = answer.json().get("errors", [])
            taken = set(some) - {error["loc"][1] for error in errors}
            assert taken == set(), f"{' '.join(route)} takes {taken}: {said(answer)}"
            assert answer.status_code == 422, said(answer)
        assert await rows(database) == before


async def test_hidden_rows_answer_a_stranger_as_missing_ones_do(
    bob: httpx2.AsyncClient, alice: httpx2.AsyncClient, database: Database
) -> None:
    for route in [route for route in TABLE if "{" in route[1]]:
        resource = resource_of(route)
        if resource and not resource.is_hidden:
            continue  # none of its rows are hidden
        hidden = await ids_of(alice, route, is_active=False)
        sent = await valid(route, BOB)
        before = await rows(database)
        answers = []
        for ids in (hidden, dict.fromkeys(hidden, 10**6)):
            answer = await bob.request(route[0], url_of(route, **ids), **sent)
            answers.append(answer.json() | {"request_id": ""})
        assert answers[0] == answers[1], " ".join(route)
        is_closed = "user_id" in route[1] or (resource and resource.policy == "superuser")
        assert answers[0]["status"] == (403 if is_closed else 404), route
        assert await rows(database) == before


JSON = {"Content-Type": "application/json"}
WRONG_INPUTS: tuple[dict[str, Any], ...] = (
    {"json": {"nonsense": 1}},
    {"json": {"email": 1, "name": 1, "price": [], "password": ""}},
    {"json": []},
    *({"content": text, "headers": JSON} for text in (b"{", b"\xff", b"[NaN]", b"")),
    {"params": {"limit": "many", "nonsense": "1"}, "json": {"nonsense": 1}},
)


@pytest.mark.parametrize("ids", ["real", "malformed"])
async def test_permission_is_checked_before_input(
    ids: str, client: httpx2.AsyncClient, alice: httpx2.AsyncClient, bob: httpx2.AsyncClient
) -> None:
    for route, row in TABLE.items():
        method = route[0]
        real = await ids_of(alice, route)
        url = url_of(route, **(real if ids == "real" else dict.fromkeys(real, "x")))
        for wrong in WRONG_INPUTS:
            if row[CALLERS.index("anonymous")] == 401:
                answer = await client.request(method, url, **wrong)
                expected = (401,) if ids == "real" else (401, 404)
                assert answer.status_code in expected, (method, url)
            refusal = row[CALLERS.index("stranger")]
            if refusal in (403, 404) and ids == "real":
                answer = await bob.request(method, url, **wrong)
                assert answer.status_code == refusal, (method, url)


async def test_lost_rights_are_gone_at_the_next_request(
    admin: httpx2.AsyncClient, bob: httpx2.AsyncClient
) -> None:
    await admin.patch(f"/users/{BOB.id}", json={"is_superuser": True})
    assert (await bob.get("/users/")).status_code == 200
    await admin.patch(f"/users/{BOB.id}", json={"is_superuser": False})
    assert (await bob.get("/users/")).status_code == 403
    await admin.patch(f"/users/{BOB.id}", json={"is_active": False})
    assert (await bob.get("/users/me")).status_code == 401
    assert (await bob.get("/products/")).status_code == 401


def takes_keys(route: Route) -> bool:
    operation = app.openapi()["paths"][route[1]][route[0].lower()]
    return "Idempotency-Key" in {each["name"] for each in operation.get("parameters", [])}


async def answers_after_losing_rights(
    change: dict[str, bool], alice: httpx2.AsyncClient, database: Database
) -> dict[Route, tuple[int, int, bool]]:
    """By route: what bob should get, what a retry gets, and whether that is a kept answer."""
    bob_as = update(User).where(User.id == BOB.id)
    column = "disabled" if "is_active" in change else "stranger"
    answers: dict[Route, tuple[int, int, bool]] = {}
    async with client_of(BOB) as bob:
        for route in filter(takes_keys, TABLE):
            url = url_of(route, **await ids_of(alice, route))
            sent = await valid(route, ADMIN)
            sent["headers"] = sent.get("headers", {}) | {"Idempotency-Key": uuid4().hex}
            async with database.transaction() as db:
                await db.execute(bob_as.values(is_superuser=True, is_active=True))
            assert (await bob.request(route[0], url, **sent)).is_success, route
            kept = await bob.request(route[0], url, **sent)
            assert kept.headers.get("Idempotency-Replayed") == "true", route
            async with database.transaction() as db:
                await db.execute(bob_as.values(change))
            retry = await bob.request(route[0], url, **sent)
            is_kept = "Idempotency-Replayed" in retry.headers
            answers[route] = TABLE[route][CALLERS.index(column)], retry.status_code, is_kept
    assert len(answers) > 5
    return answers


async def test_no_kept_answer_is_given_to_who_has_lost_the_right(
    alice: httpx2.AsyncClient, database: Database
) -> None:
    demoted = await answers_after_losing_rights({"is_superuser": False}, alice, database)
    for route, (expected, status, is_kept) in demoted.items():
        assert status == expected, route
        assert is_kept == (expected < 300), route


async def test_no_kept_answer_is_given_to_who_was_disabled(
    alice: httpx2.AsyncClient, database: Database
) -> None:
    disabled = await answers_after_losing_rights({"is_active": False}, alice, database)
    for route, (_, status, is_kept) in disabled.items():
        assert (status, is_kept) == (401, False), route


async def test_control_answers_kept_before_rights_are_checked_would_be_given(
    alice: httpx2.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def find_at_once(request: Request) -> Any:
        keyed = await get_keyed_request(request)
        give_kept_answer(request)
        return keyed

    get_keyed_request = dependencies.get_keyed_request
    monkeypatch.setattr(dependencies, "get_keyed_request", find_at_once)
    demoted = await answers_after_losing_rights({"is_superuser": False}, alice, database)
    assert any(is_kept and expected >= 400 for expected, _, is_kept in demoted.values())


DISGUISES = (
    *("//api/v1/users/", "/api/v1//users/", "/api/v1/users%2f", "/API/v1/users/", "/users/"),
    *("/api/v1/./users/", "/api/v1/products/../users/", "/api/v1/users/?", "/api/v1/users/%2e"),
)


async def test_no_spelling_of_a_path_gets_around_its_guard(client: httpx2.AsyncClient) -> None:
    for path in DISGUISES:
        url = httpx2.URL(ORIGIN, raw_path=path.encode())
        assert (await client.get(url)).status_code in (401, 404), path


async def test_nothing_but_the_method_is_the_method(alice: httpx2.AsyncClient) -> None:
    product = await create(alice)
    for header in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"):
        await alice.get(f"/products/{product['id']}", headers={header: "DELETE"})
    await alice.get(f"/products/{product['id']}", params={"_method": "DELETE"})
    assert (await alice.get(f"/products/{product['id']}")).status_code == 200
