"""Users over HTTP: what superusers do with others, and the superuser who always remains."""

import asyncio
from typing import Any

import httpx2
from sqlalchemy import func, select, update
from timberframe.data.session import Database
from timberframe.testing import ADMIN, ALICE, BOB, client_of

from app.models import User
from tests.factories.users import EMAIL_TAKEN, can_sign_in, sign_up

LAST_ONE = "The last active superuser cannot be disabled, demoted or deleted"


async def test_list_is_cut_by_skip_and_limit(admin: httpx2.AsyncClient) -> None:
    pages = [
        (await admin.get("/users/", params={"skip": skip, "limit": 2})).json() for skip in (0, 2, 4)
    ]
    assert [[user["id"] for user in page.pop("items")] for page in pages] == [[1, 2], [3], []]
    assert [page.pop("next_cursor") is None for page in pages] == [False, True, True]
    size = {"total": 3, "total_is": "exact", "size": 2}
    assert pages == [{"page": page} | size for page in (1, 2, 3)]
    everybody = (await admin.get("/users/")).json()
    assert [user["username"] for user in everybody["items"]] == ["alice", "bob", "admin"]
    assert (everybody["page"], everybody["size"]) == (1, 100)


SEARCHES = {
    "alice@": ["alice"],
    "EXAMPLE.COM": ["alice", "bob", "admin", "kate"],
    "KaTe": ["kate"],
    "béa": ["kate"],
    "BÉA": ["kate"],
    "bea": ["kate"],
    "Béatrise": ["kate"],
    "nobody": [],
}


async def test_search_finds_names_and_addresses_in_any_case(admin: httpx2.AsyncClient) -> None:
    await sign_up(admin, full_name="Béatrice")
    found = {}
    for q in SEARCHES:
        page = (await admin.get("/users/", params={"q": q})).json()
        found[q] = [user["username"] for user in page["items"]]
        assert page["total"] == len(found[q])
    assert found == SEARCHES


async def test_unknown_parameter_of_a_list_is_refused(admin: httpx2.AsyncClient) -> None:
    for name in ("Skip", "page", "full_name", "is_active__gte", "hashed_password", "id"):
        answer = await admin.get("/users/", params={name: "1"})
        assert answer.status_code == 422, name
        assert answer.json()["errors"][0]["loc"] == ["query", name]


CHANGES: tuple[dict[str, object], ...] = (
    {"email": "new@example.com"},
    {"full_name": "New Name"},
    {"full_name": None, "is_active": False},
    {"is_active": True},
)


async def test_superuser_changes_what_was_sent_and_no_more(admin: httpx2.AsyncClient) -> None:
    for change in CHANGES:
        before = (await admin.get(f"/users/{ALICE.id}")).json()
        answer = await admin.patch(f"/users/{ALICE.id}", json=change)
        assert answer.status_code == 200
        after = answer.json()
        assert after == before | change | {"updated_at": after["updated_at"]}
        assert after["updated_at"] > before["updated_at"]
        assert (await admin.get(f"/users/{ALICE.id}")).json() == after


REFUSED: tuple[dict[str, object], ...] = (
    {"email": None},
    {"is_active": None},
    {"is_active": "false"},
    {"is_superuser": 1},
    {"password": "New-Pass-1"},
    {"username": "alice2"},
)


async def test_wrong_change_by_a_superuser_is_refused(admin: httpx2.AsyncClient) -> None:
    before = (await admin.get(f"/users/{ALICE.id}")).json()
    for change in REFUSED:
        answer = await admin.patch(f"/users/{ALICE.id}", json=change)
        assert answer.status_code == 422, change
        assert answer.json()["errors"][0]["loc"] == ["body", *change]
    answer = await admin.patch(f"/users/{ALICE.id}", json={"email": BOB.email.upper()})
    assert (answer.status_code, answer.json()["detail"]) == (400, EMAIL_TAKEN)
    assert (await admin.get(f"/users/{ALICE.id}")).json() == before


async def test_disabled_user_comes_back_when_enabled(
    admin: httpx2.AsyncClient, alice: httpx2.AsyncClient
) -> None:
    await admin.patch(f"/users/{ALICE.id}", json={"is_active": False})
    assert (await alice.get("/users/me")).status_code == 401
    assert not await can_sign_in(alice, ALICE.name, ALICE.password)
    await admin.patch(f"/users/{ALICE.id}", json={"is_active": True})
    assert (await alice.get("/users/me")).status_code == 200
    assert await can_sign_in(alice, ALICE.name, ALICE.password)


async def test_deleted_user_is_gone_with_their_token(
    admin: httpx2.AsyncClient, alice: httpx2.AsyncClient
) -> None:
    answer = await admin.delete(f"/users/{ALICE.id}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert (await admin.get(f"/users/{ALICE.id}")).status_code == 404
    assert (await admin.delete(f"/users/{ALICE.id}")).status_code == 404
    assert (await alice.get("/users/me")).status_code == 401


async def test_key_of_a_deleted_user_is_never_given_out_again(admin: httpx2.AsyncClient) -> None:
    for number in range(3):
        user = await sign_up(admin)
        assert user["id"] == 4 + number
        assert (await admin.delete(f"/users/{user['id']}")).status_code == 204


async def test_user_deleted_twice_at_once_is_deleted_once(admin: httpx2.AsyncClient) -> None:
    answers = await asyncio.gather(*(admin.delete(f"/users/{ALICE.id}") for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [204, 404, 404, 404]


BOTH = {"is_superuser": True, "is_active": True}
FAREWELLS: tuple[tuple[str, Any], ...] = (
    ("PATCH", {"json": {"is_active": False}}),
    ("PATCH", {"json": {"is_superuser": False}}),
    ("DELETE", {}),  # the last, since there is no way back
)


async def set_rights(database: Database, *users: int) -> None:
    async with database.transaction() as db:
        await db.execute(update(User).where(User.id.in_(users)).values(BOTH))


async def test_last_active_superuser_remains(admin: httpx2.AsyncClient, database: Database) -> None:
    for method, body in FAREWELLS:
        await set_rights(database, ADMIN.id)
        # A superuser who is disabled does not count.
        disabled = {"is_superuser": True, "is_active": False}
        assert (await admin.patch(f"/users/{BOB.id}", json=disabled)).status_code == 200
        answer = await admin.request(method, f"/users/{ADMIN.id}", **body)
        assert (answer.status_code, answer.json()["detail"]) == (409, LAST_ONE)
        assert (await admin.get("/users/")).status_code == 200

        await admin.patch(f"/users/{BOB.id}", json={"is_active": True})
        answer = await admin.request(method, f"/users/{ADMIN.id}", **body)
        assert answer.status_code in (200, 204)
        assert (await admin.get("/users/")).status_code in (401, 403)


async def test_last_superuser_may_change_otherwise(admin: httpx2.AsyncClient) -> None:
    change = {"full_name": "Admin", "is_active": True, "is_superuser": True}
    assert (await admin.patch(f"/users/{ADMIN.id}", json=change)).status_code == 200


async def test_two_superusers_who_remove_each_other_leave_one(
    admin: httpx2.AsyncClient, database: Database
) -> None:
    async with client_of(BOB) as bob:
        for field in ("is_superuser", "is_active") * 14:
            await set_rights(database, ADMIN.id, BOB.id)
            answers = await asyncio.gather(
                admin.patch(f"/users/{BOB.id}", json={field: False}),
                bob.patch(f"/users/{ADMIN.id}", json={field: False}),
            )
            statuses = sorted(answer.status_code for answer in answers)
            # The loser is told so, or had lost their rights before that.
            assert statuses in ([200, 401], [200, 403], [200, 409])
            async with database.reading() as db:
                left = select(func.count()).where(User.is_superuser, User.is_active)
                assert await db.scalar(left) == 1
