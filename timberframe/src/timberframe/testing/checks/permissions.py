"""Who may do what: every route of the table and every kind of caller, and what leaks to nobody."""

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx2
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from sqlalchemy import select, update

from timberframe.data.base import Base
from timberframe.data.session import Database
from timberframe.http.routing import RouteIndex
from timberframe.testing import subject
from timberframe.testing.cast import ADMIN, ALICE, BOB, Person, client_of
from timberframe.testing.routes import CALLERS, SUPERUSER, Route, resources, routes, said

CAROL = Person(4, "carol")  # signs up and is disabled, where a test needs such a person
SIGN_UP = {"email": CAROL.email, "username": CAROL.name, "password": CAROL.password}
PROBLEM = {"type", "title", "status", "detail", "code", "request_id"}
OUTSIDE_THE_SCHEMA = {"/api/openapi.json", "/api/docs", "/api/redoc", "/api/redoc/redoc.js"}
IN_DEVELOPMENT = {"/dev/mail", "/dev/mail/{name}", "/dev/mail/{name}/html"}


def served_routes(app: FastAPI) -> Counter[tuple[str, str]]:
    """How often each method and path is served."""
    return Counter(
        (method, context.path_format or "")
        for context in iter_route_contexts(app.routes)
        if getattr(context, "include_in_schema", False)
        for method in context.methods or ()
    )


def wrong_rows(served: Counter[tuple[str, str]]) -> list[str]:
    """Each row that the table lacks, and each that it has too many."""
    stated = Counter((route.method, route.full_path) for route in routes())
    where = "add it to `further` of its RESOURCE, or to ROUTES"
    return [
        *(f"the table lacks {row_of(*each)}: {where}" for each in sorted(served - stated)),
        *(f"{row_of(*each)} is not served: remove it" for each in sorted(stated.keys() - served)),
        *(f"{row_of(*each)} is stated twice" for each in sorted((stated - served) & served)),
    ]


def row_of(method: str, path: str) -> str:
    prefix = subject.settings().API_V1_PREFIX
    if path.startswith(f"{prefix}/"):
        return f'Route("{method}", "{path.removeprefix(prefix)}", …)'
    return f'Route("{method}", "{path}", …, prefix="")'


def test_table_names_every_route_and_no_other(app: FastAPI) -> None:
    wrong = wrong_rows(served_routes(app))
    assert not wrong, "\n".join(wrong)


def test_only_the_documentation_is_outside_the_schema(app: FastAPI) -> None:
    plain = [route for route in app.routes if not isinstance(route, RouteIndex)]
    contexts = iter_route_contexts(plain)
    hidden = {c.path for c in contexts if not getattr(c, "include_in_schema", False)}
    assert hidden - IN_DEVELOPMENT == OUTSIDE_THE_SCHEMA | {"/api/docs/assets"}


async def headers_of(caller: str, admin: httpx2.AsyncClient) -> dict[str, str]:
    match caller:
        case "bad token":
            header, payload, signature = subject.tokens().create(ALICE.id).split(".")
            return {"Authorization": f"Bearer {header}.{payload}.{signature[::-1]}"}
        case "expired token":
            expired = replace(subject.tokens(), lifetime=timedelta(minutes=-1)).create(ALICE.id)
            return {"Authorization": f"Bearer {expired}"}
        case "disabled":
            await admin.post("/users/", json=SIGN_UP)
            answer = await admin.patch(f"/users/{CAROL.id}", json={"is_active": False})
            assert answer.json()["is_active"] is False
            return CAROL.headers
    people = {"owner": ALICE, "stranger": BOB, "admin": ADMIN}
    return people[caller].headers if caller in people else {}


def content_of(answer: httpx2.Response) -> Any:
    is_json = "json" in answer.headers.get("content-type", "")
    return answer.json() if answer.content and is_json else {}


def keys_in(value: object, free_form: Collection[str] = ()) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value
        value = [each for key, each in value.items() if key not in free_form]
    if isinstance(value, list):
        for item in value:
            yield from keys_in(item, free_form)


async def stored_hashes(app: FastAPI, database: Database) -> set[str]:
    async with database.reading() as db:
        return set(await db.scalars(select(app.state.accounts.model.hashed_password)))


async def test_every_route_answers_every_caller_as_the_table_says(
    app: FastAPI,
    database: Database,
    client: httpx2.AsyncClient,
    alice: httpx2.AsyncClient,
    admin: httpx2.AsyncClient,
) -> None:
    headers = {caller: await headers_of(caller, admin) for caller in CALLERS}
    wrong, unknown = [], []
    texts: list[str] = []
    hashes: set[str] = set()
    for route in routes():
        ids: dict[str, int] = {}
        bodies: dict[Person, dict[str, Any]] = {}
        for caller, expected in route.access.statuses(route.success).items():
            sender = {"stranger": BOB, "admin": ADMIN}.get(caller, ALICE)
            ids = ids or await route.ids(alice)
            sent = bodies[sender] = bodies.get(sender) or await route.valid(sender)
            sent = sent | {"headers": headers[caller] | sent.get("headers", {})}
            answer = await client.request(route.method, route.url(ids), **sent)
            if answer.status_code != expected:
                wrong.append(f"{caller}: {route.label}: not {expected}, but {said(answer)}")
            known = route.shows if answer.is_success else PROBLEM
            keys = sorted(set(keys_in(content_of(answer), route.free_form)) - known)
            unknown += [f"{caller}: {route.label} shows {key}" for key in keys]
            texts.append(answer.text)
            if answer.is_success and route.method != "GET":
                # The row may be gone, and a unique value is taken.
                ids, bodies = {}, {}
        hashes |= await stored_hashes(app, database)
    assert wrong == []
    assert unknown == []
    assert hashes
    assert [text for text in texts if any(stored in text for stored in hashes)] == []


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


async def test_column_that_a_route_does_not_take_is_refused(
    alice: httpx2.AsyncClient, admin: httpx2.AsyncClient, database: Database
) -> None:
    for route in routes():
        body = (await route.valid(ADMIN)).get("json")
        if body is None:
            continue
        url = route.url(await route.ids(alice))
        before = await rows(database)
        names = sorted((columns() | NO_COLUMNS) - body.keys() - route.takes)
        for start in range(0, len(names), 20):
            some = names[start : start + 20]
            # No column has this value, which a PUT could send back.
            answer = await admin.request(route.method, url, json=body | dict.fromkeys(some, -2))
            errors = answer.json().get("errors", [])
            taken = set(some) - {error["loc"][1] for error in errors}
            assert taken == set(), f"{route.label} takes {taken}: {said(answer)}"
            assert answer.status_code == 422, said(answer)
        assert await rows(database) == before


async def test_hidden_rows_answer_a_stranger_as_missing_ones_do(
    bob: httpx2.AsyncClient, alice: httpx2.AsyncClient, database: Database
) -> None:
    for route in [route for route in routes() if route.parameters]:
        named = [each for each in resources() if each.parameter in route.parameters]
        if not all(resource.is_hidden for resource in named):
            continue
        hidden = await route.ids(alice, is_hidden=True)
        sent = await route.valid(BOB)
        before = await rows(database)
        answers = []
        for ids in (hidden, dict.fromkeys(hidden, 10**6)):
            answer = await bob.request(route.method, route.url(ids), **sent)
            answers.append(answer.json() | {"request_id": ""})
        assert answers[0] == answers[1], route.label
        is_closed = "user_id" in route.parameters or route.access == SUPERUSER
        assert answers[0]["status"] == (403 if is_closed else 404), route.label
        assert await rows(database) == before


JSON = {"Content-Type": "application/json"}
WRONG_INPUTS: tuple[dict[str, Any], ...] = (
    {"json": {"nonsense": 1}},
    {"json": {"email": 1, "name": 1, "price": [], "password": ""}},
    {"json": []},
    *({"content": text, "headers": JSON} for text in (b"{", b"\xff", b"[NaN]", b"")),
    {"params": {"limit": "many", "nonsense": "1"}, "json": {"nonsense": 1}},
)


async def test_permission_is_checked_before_input(
    client: httpx2.AsyncClient, alice: httpx2.AsyncClient, bob: httpx2.AsyncClient
) -> None:
    for route in routes():
        ids = await route.ids(alice)
        real, malformed = route.url(ids), route.url(dict.fromkeys(ids, "x"))
        if route.access.anonymous == 401:
            answer = await client.request(route.method, malformed, **WRONG_INPUTS[0])
            assert answer.status_code in (401, 404), said(answer)
        for wrong in WRONG_INPUTS:
            if route.access.anonymous == 401:
                answer = await client.request(route.method, real, **wrong)
                assert answer.status_code == 401, said(answer)
            if route.access.stranger:
                answer = await bob.request(route.method, real, **wrong)
                assert answer.status_code == route.access.stranger, said(answer)


async def test_lost_rights_are_gone_at_the_next_request(
    admin: httpx2.AsyncClient, bob: httpx2.AsyncClient
) -> None:
    await admin.patch(f"/users/{BOB.id}", json={"is_superuser": True})
    assert (await bob.get("/users/")).status_code == 200
    await admin.patch(f"/users/{BOB.id}", json={"is_superuser": False})
    assert (await bob.get("/users/")).status_code == 403
    await admin.patch(f"/users/{BOB.id}", json={"is_active": False})
    assert (await bob.get("/users/me")).status_code == 401


def takes_keys(app: FastAPI, route: Route) -> bool:
    operation = app.openapi()["paths"][route.full_path][route.method.lower()]
    return "Idempotency-Key" in {each["name"] for each in operation.get("parameters", [])}


async def answers_after_losing_rights(
    app: FastAPI, change: dict[str, bool], alice: httpx2.AsyncClient, database: Database
) -> dict[str, tuple[int, int, bool]]:
    """By route: what bob should get, what a retry gets, and whether that is a kept answer."""
    user = app.state.accounts.model
    bob_as = update(user).where(user.id == BOB.id)
    caller = "disabled" if "is_active" in change else "stranger"
    answers: dict[str, tuple[int, int, bool]] = {}
    async with client_of(BOB) as bob:
        for route in [route for route in routes() if takes_keys(app, route)]:
            url = route.url(await route.ids(alice))
            sent = await route.valid(ADMIN)
            sent["headers"] = sent.get("headers", {}) | {"Idempotency-Key": uuid4().hex}
            async with database.transaction() as db:
                await db.execute(bob_as.values(is_superuser=True, is_active=True))
            assert (await bob.request(route.method, url, **sent)).is_success, route.label
            kept = await bob.request(route.method, url, **sent)
            assert kept.headers.get("Idempotency-Replayed") == "true", route.label
            async with database.transaction() as db:
                await db.execute(bob_as.values(change))
            retry = await bob.request(route.method, url, **sent)
            is_kept = "Idempotency-Replayed" in retry.headers
            expected = route.access.statuses(route.success)[caller]
            answers[route.label] = expected, retry.status_code, is_kept
    assert answers
    return answers


async def test_no_kept_answer_is_given_to_who_has_lost_the_right(
    app: FastAPI, alice: httpx2.AsyncClient, database: Database
) -> None:
    demoted = await answers_after_losing_rights(app, {"is_superuser": False}, alice, database)
    for route, (expected, status, is_kept) in demoted.items():
        assert status == expected, route
        assert is_kept == (expected < 300), route


async def test_no_kept_answer_is_given_to_who_was_disabled(
    app: FastAPI, alice: httpx2.AsyncClient, database: Database
) -> None:
    disabled = await answers_after_losing_rights(app, {"is_active": False}, alice, database)
    for route, (_, status, is_kept) in disabled.items():
        assert (status, is_kept) == (401, False), route


DISGUISES = (
    *("//api/v1/users/", "/api/v1//users/", "/api/v1/users%2f", "/API/v1/users/", "/users/"),
    *("/api/v1/./users/", "/api/v1/auth/../users/", "/api/v1/users/?", "/api/v1/users/%2e"),
)


async def test_no_spelling_of_a_path_gets_around_its_guard(client: httpx2.AsyncClient) -> None:
    for path in DISGUISES:
        url = httpx2.URL("http://testserver", raw_path=path.encode())
        assert (await client.get(url)).status_code in (401, 404), path


async def test_nothing_but_the_method_is_the_method(admin: httpx2.AsyncClient) -> None:
    path = f"/users/{BOB.id}"
    for header in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"):
        await admin.get(path, headers={header: "DELETE"})
    await admin.get(path, params={"_method": "DELETE"})
    assert (await admin.get(path)).status_code == 200
