"""`Idempotency-Key`: one effect and one answer, however often a request is sent."""

import asyncio
import hashlib
import json
import secrets
import threading
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from fastapi import Response
from sqlalchemy import event, func, select, update

from specimen.config import settings
from specimen.crud import user_crud
from specimen.factories import CHAIR, create
from specimen.main import app
from specimen.models import Product, User
from timberframe.crud.idempotency import PURGED_AT_ONCE, Answer, IdempotencyKey, KeyedRequest
from timberframe.data.base import utc_now
from timberframe.data.retries import TransactionConflict
from timberframe.data.session import Database
from timberframe.http.dependencies import DbSession
from timberframe.routes import Router
from timberframe.testing import ALICE, create_app, lifespan
from timberframe.testing.databases import connections_taken

KEY = {"Idempotency-Key": "8e03978e-40d5-43dd-bc93-6894a57f9324"}
CAROL = {"email": "carol@example.com", "username": "carol", "password": "Carol-Pass-1"}


async def count(database: Database, model: type[Any]) -> int:
    async with database.reading() as db:
        return await db.scalar(select(func.count()).select_from(model)) or 0


async def make_older(database: Database, hours: float) -> None:
    then = utc_now() - timedelta(hours=hours)
    async with database.transaction() as db:
        await db.execute(update(IdempotencyKey).values(created_at=then))


def is_replay(answer: httpx2.Response) -> bool:
    return answer.headers.get("idempotency-replayed") == "true"


def assert_same(first: httpx2.Response, again: httpx2.Response) -> None:
    assert is_replay(again)
    assert not is_replay(first)
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers["x-request-id"] != first.headers["x-request-id"]
    for name in ("content-type", "content-length", "location", "etag"):
        assert again.headers.get(name) == first.headers.get(name), name


async def test_same_request_again_gets_the_same_answer(
    alice: httpx2.AsyncClient, database: Database
) -> None:
    first = await alice.post("/products/", json=CHAIR, headers=KEY)
    assert first.status_code == 201
    for _ in range(3):
        assert_same(first, await alice.post("/products/", json=CHAIR, headers=KEY))
    assert await count(database, Product) == 1


async def test_without_a_key_each_request_is_one_of_its_own(
    alice: httpx2.AsyncClient, database: Database
) -> None:
    """The control: the same two requests."""
    answers = [
        await alice.post("/products/", json=CHAIR | {"sku": sku}) for sku in ("CH-1", "CH-2")
    ]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert (await alice.post("/products/", json=CHAIR)).status_code == 400
    assert await count(database, Product) == 2
    assert await count(database, IdempotencyKey) == 0


async def test_change_is_made_once(alice: httpx2.AsyncClient) -> None:
    """A retry that comes late does not undo what was done in between."""
    path = f"/products/{(await create(alice))['id']}"
    first = await alice.patch(path, json={"stock": 5}, headers=KEY)
    await alice.patch(path, json={"stock": 7})
    assert_same(first, await alice.patch(path, json={"stock": 5}, headers=KEY))
    assert (await alice.get(path)).json()["stock"] == 7


async def test_retry_of_a_change_does_not_depend_on_the_state_since(
    alice: httpx2.AsyncClient,
) -> None:
    """The first one changed the version that it names, and the row may be gone."""
    product = await create(alice)
    path, headers = f"/products/{product['id']}", KEY | {"If-Match": '"1"'}
    first = await alice.patch(path, json={"stock": 5}, headers=headers)
    assert first.status_code == 200
    assert_same(first, await alice.patch(path, json={"stock": 5}, headers=headers))
    await alice.delete(path)
    assert_same(first, await alice.patch(path, json={"stock": 5}, headers=headers))
    assert (await alice.patch(path, json={"stock": 5}, headers={"If-Match": '"1"'})).is_client_error


async def test_changed_password_is_confirmed_to_a_retry(alice: httpx2.AsyncClient) -> None:
    """Though the `current_password` in it is no longer the current one."""
    change = {"password": "Alice-Pass-2", "current_password": ALICE.password}
    first = await alice.patch("/users/me", json=change, headers=KEY)
    assert first.status_code == 200
    assert_same(first, await alice.patch("/users/me", json=change, headers=KEY))
    assert (await alice.patch("/users/me", json=change)).status_code == 403


OTHERS: dict[str, dict[str, Any]] = {
    "body": {"json": CHAIR | {"price": "19.91"}},
    "spelling": {"content": b'{"sku":"CH-1","name":"Chair","price":"19.90" }'},
    "query": {"json": CHAIR, "params": {"a": "b"}},
    "path": {"json": CHAIR, "url": "/users/"},
    "method": {"json": CHAIR, "url": "/users/me", "method": "PATCH"},
}


async def test_key_is_not_taken_for_another_request(
    alice: httpx2.AsyncClient, database: Database
) -> None:
    await alice.post("/products/", json=CHAIR, headers=KEY)
    headers = KEY | {"Content-Type": "application/json"}
    for differs, other in OTHERS.items():
        request = {"method": "POST", "url": "/products/"} | other
        answer = await alice.request(**request, headers=headers)
        assert answer.status_code == 422, differs
        assert answer.json()["code"] == "idempotency_key_reused"
        assert await count(database, Product) == 1


async def test_callers_do_not_share_keys(
    client: httpx2.AsyncClient, alice: httpx2.AsyncClient, bob: httpx2.AsyncClient
) -> None:
    answers = [
        await alice.post("/products/", json=CHAIR, headers=KEY),
        await bob.post("/products/", json=CHAIR | {"sku": "CH-2"}, headers=KEY),
        await client.post("/users/", json=CAROL, headers=KEY),
    ]
    assert [answer.status_code for answer in answers] == [201] * 3
    assert not any(map(is_replay, answers))
    stolen = await client.post("/products/", json=CHAIR, headers=KEY)
    assert stolen.status_code == 401
    assert "id" not in stolen.json()


async def test_sign_up_again_is_the_same_sign_up(
    client: httpx2.AsyncClient, database: Database
) -> None:
    first = await client.post("/users/", json=CAROL, headers=KEY)
    assert first.status_code == 201
    assert_same(first, await client.post("/users/", json=CAROL, headers=KEY))
    assert await count(database, User) == 4


async def test_closed_account_is_not_answered_again(
    alice: httpx2.AsyncClient, admin: httpx2.AsyncClient
) -> None:
    await alice.post("/products/", json=CHAIR, headers=KEY)
    await admin.patch(f"/users/{ALICE.id}", json={"is_active": False})
    answer = await alice.post("/products/", json=CHAIR, headers=KEY)
    assert answer.status_code == 401
    assert not is_replay(answer)


async def test_bad_credentials_are_refused_though_anybody_may_sign_up(
    client: httpx2.AsyncClient,
) -> None:
    """With a key it matters who asks."""
    bad = {"Authorization": "Bearer x"}
    assert (await client.post("/users/", json=CAROL, headers=bad | KEY)).status_code == 401
    assert (await client.post("/users/", json=CAROL, headers=bad)).status_code == 201


async def test_refused_request_is_not_kept(
    alice: httpx2.AsyncClient, bob: httpx2.AsyncClient, admin: httpx2.AsyncClient
) -> None:
    """Each time the reason goes away, and the same request with the same key succeeds."""
    path = f"/products/{(await create(bob))['id']}"

    async def goes_through(
        send: Callable[[], Awaitable[httpx2.Response]],
        refused_with: int,
        mend: Callable[[], Awaitable[httpx2.Response]],
    ) -> None:
        assert (await send()).status_code == refused_with
        assert (await mend()).is_success
        answer = await send()
        assert answer.is_success, answer.text
        assert not is_replay(answer)

    await goes_through(
        lambda: alice.post("/products/", json=CHAIR, headers={"Idempotency-Key": "taken"}),
        400,
        lambda: bob.patch(path, json={"sku": "CH-2"}),
    )
    demote = {"is_superuser": False}
    await goes_through(
        lambda: admin.patch("/users/3", json=demote, headers={"Idempotency-Key": "the-last"}),
        409,
        lambda: admin.patch("/users/1", json={"is_superuser": True}),
    )
    await goes_through(
        lambda: bob.patch("/users/1", json=demote, headers={"Idempotency-Key": "forbidden"}),
        403,
        lambda: alice.patch("/users/2", json={"is_superuser": True}),
    )
    wrong = await bob.post("/products/", json={}, headers=KEY)
    assert wrong.status_code == 422
    right = await bob.post("/products/", json=CHAIR | {"sku": "CH-3"}, headers=KEY)
    assert right.status_code == 201


async def test_answer_is_not_kept_without_its_effect(
    alice: httpx2.AsyncClient, database: Database
) -> None:
    def fail(connection: object) -> None:
        raise RuntimeError

    event.listen(database.engine.sync_engine, "commit", fail)
    assert (await alice.post("/products/", json=CHAIR, headers=KEY)).status_code == 500
    event.remove(database.engine.sync_engine, "commit", fail)
    answer = await alice.post("/products/", json=CHAIR, headers=KEY)
    assert answer.status_code == 201
    assert not is_replay(answer)
    assert await count(database, Product) == await count(database, IdempotencyKey) == 1


async def test_key_is_free_again_when_its_hours_are_over(
    alice: httpx2.AsyncClient, database: Database
) -> None:
    first = await alice.post("/products/", json=CHAIR, headers=KEY)
    await make_older(database, settings.IDEMPOTENCY_KEY_HOURS - 0.1)
    assert_same(first, await alice.post("/products/", json=CHAIR, headers=KEY))
    await make_older(database, settings.IDEMPOTENCY_KEY_HOURS + 0.1)
    second = await alice.post("/products/", json=CHAIR | {"sku": "CH-2"}, headers=KEY)
    assert second.status_code == 201
    assert not is_replay(second)
    assert await count(database, Product) == 2
    assert await count(database, IdempotencyKey) == 1


async def test_expired_answers_do_not_pile_up(
    alice: httpx2.AsyncClient, database: Database
) -> None:
    async with database.transaction() as db:
        for n in range(PURGED_AT_ONCE + 5):
            db.add(
                IdempotencyKey(
                    key_hash=bytes([n]), fingerprint=b"", status=200, headers={}, body=b""
                )
            )
    await make_older(database, 25)
    for left in (6, 2, 3):
        sku = f"CH-{left}"
        await alice.post("/products/", json=CHAIR | {"sku": sku}, headers={"Idempotency-Key": sku})
        assert await count(database, IdempotencyKey) == left


async def test_of_many_at_once_one_is_done(alice: httpx2.AsyncClient, database: Database) -> None:
    answers = await asyncio.gather(
        *(alice.post("/products/", json=CHAIR, headers=KEY) for _ in range(20))
    )
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert len({answer.content for answer in answers if answer.status_code == 201}) == 1
    assert [is_replay(answer) for answer in answers if answer.status_code == 201].count(False) == 1
    assert await count(database, Product) == 1
    assert connections_taken(database) == 0


def keyed_request(database: Database, key: str, *, caller_id: int | None) -> KeyedRequest:
    return KeyedRequest.of(
        key,
        caller_id=caller_id,
        content=b"",
        keys=database.keys,
        lifetime=timedelta(hours=24),
    )


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
async def test_request_under_way_is_not_waited_for(
    alice: httpx2.AsyncClient, database: Database
) -> None:
    """On SQLite it is: there, every writer waits for the one before."""
    under_way = keyed_request(database, KEY["Idempotency-Key"], caller_id=ALICE.id)
    async with database.transaction(first=under_way.claim) as db:
        await db.execute(select(1))
        answer = await alice.post("/products/", json=CHAIR, headers=KEY)
    assert answer.status_code == 409
    assert answer.json()["code"] == "idempotency_key_in_use"
    assert answer.headers["retry-after"] == "1"
    assert (await alice.post("/products/", json=CHAIR, headers=KEY)).status_code == 201


async def test_second_answer_for_a_key_is_a_conflict(database: Database) -> None:
    """The table decides in the end, should two ever hold one claim: the next attempt replays."""
    keyed = keyed_request(database, "key", caller_id=None)
    async with database.transaction() as db:
        await keyed.remember(db, Answer(200, {}, b"first"))
    async with database.transaction() as db:
        with pytest.raises(TransactionConflict):
            await keyed.remember(db, Answer(200, {}, b"second"))
        await db.rollback()
    assert await count(database, IdempotencyKey) == 1


async def test_nothing_is_held_while_a_password_is_hashed(
    client: httpx2.AsyncClient, alice: httpx2.AsyncClient, database: Database
) -> None:
    go_on = threading.Event()
    passwords = user_crud.passwords
    for _ in range(passwords._threads._max_workers):
        passwords._threads.submit(go_on.wait)
    try:
        sign_up = asyncio.create_task(client.post("/users/", json=CAROL, headers=KEY))
        await asyncio.wait([sign_up], timeout=0.5)
        assert passwords._waiting == 1
        assert connections_taken(database) == 0
        assert (await alice.post("/products/", json=CHAIR)).status_code == 201
    finally:
        go_on.set()
    assert (await sign_up).status_code == 201


MALFORMED = ([""], ["x" * 256], ["two words"], ["\x7f"], ["tab\t"], ["ключ"], ["é"], ["a", "b"])


async def test_malformed_key_is_refused(alice: httpx2.AsyncClient, database: Database) -> None:
    """So are two keys. The longest one is taken, which is the control."""
    for keys in MALFORMED:
        headers = [(b"Idempotency-Key", key.encode()) for key in keys]
        answer = await alice.post("/products/", json=CHAIR, headers=headers)
        assert answer.status_code == 422, keys
        assert answer.json()["errors"][0]["loc"] == ["header", "Idempotency-Key"]
    assert await count(database, Product) == 0
    longest = {"Idempotency-Key": "x" * 255}
    first = await alice.post("/products/", json=CHAIR, headers=longest)
    assert_same(first, await alice.post("/products/", json=CHAIR, headers=longest))


async def test_what_is_idempotent_anyway_takes_no_key(
    alice: httpx2.AsyncClient, database: Database
) -> None:
    path = f"/products/{(await create(alice))['id']}"
    assert (await alice.get(path, headers=KEY)).status_code == 200
    assert (await alice.put(path, json={"stock": 1}, headers=KEY)).status_code == 200
    assert (await alice.delete(path, headers=KEY)).status_code == 204
    assert await count(database, IdempotencyKey) == 0


async def test_row_tells_nothing_of_the_request(
    client: httpx2.AsyncClient, database: Database
) -> None:
    await client.post("/users/", json=CAROL, headers=KEY)
    async with database.reading() as db:
        row = (await db.scalars(select(IdempotencyKey))).one()
    body = json.dumps(CAROL, separators=(",", ":")).encode()
    for known in (KEY["Idempotency-Key"].encode(), body):
        assert hashlib.sha256(known).digest() not in (row.key_hash, row.fingerprint)
    assert CAROL["password"].encode() not in row.body
    assert row.headers.keys() == {"content-type", "etag", "location"}


async def test_request_without_a_key_costs_no_statement(
    alice: httpx2.AsyncClient, database: Database
) -> None:
    statements: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    event.listen(database.engine.sync_engine, "before_cursor_execute", note)
    await alice.post("/products/", json=CHAIR)
    without = tuple(statements)
    await alice.post("/products/", json=CHAIR | {"sku": "CH-2"}, headers=KEY)
    event.remove(database.engine.sync_engine, "before_cursor_execute", note)
    assert not without  # the product is one on the driver itself
    assert any("idempotency" in statement for statement in statements)


async def test_answer_that_may_not_be_stored_is_not_kept(database_url: str) -> None:
    """A token, say: whoever reads the table must not find one."""
    app = create_app()
    router = Router()

    @router.post("/tokens")
    async def create_token(db: DbSession, response: Response) -> str:
        response.headers["Cache-Control"] = "no-store"
        return secrets.token_urlsafe()

    app.include_router(router)
    async with (
        lifespan(app),
        httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app), base_url="http://testserver"
        ) as client,
    ):
        answers = [await client.post("/tokens", headers=KEY) for _ in range(2)]
        assert answers[0].content != answers[1].content
        assert await count(app.state.database, IdempotencyKey) == 0


# A token may not be stored, and an upsert may be done twice.
WITHOUT_KEYS = {"POST /api/v1/auth/login", "POST /api/v1/products/import"}


def test_documentation_names_the_header_on_each_post_and_patch() -> None:
    routes = {
        f"{method.upper()} {path}": operation
        for path, operations in app.openapi()["paths"].items()
        for method, operation in operations.items()
    }
    documented = {
        label
        for label, operation in routes.items()
        if any(p["name"] == "Idempotency-Key" for p in operation.get("parameters", []))
    }
    written = {label for label in routes if label.startswith(("POST ", "PATCH "))}
    assert written > WITHOUT_KEYS
    assert documented == written - WITHOUT_KEYS
