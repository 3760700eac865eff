"""Users over HTTP: signing up, and what people do with their own account."""

import asyncio
from datetime import datetime

import httpx2
import pytest
from timberframe.testing import ALICE, BOB

from tests.factories.users import EMAIL_TAKEN, KATE, can_sign_in, sign_up

USERNAME_TAKEN = "User with this username already exists"


async def test_new_user_is_active_and_can_sign_in(client: httpx2.AsyncClient) -> None:
    user = await sign_up(client)
    assert user == {
        "id": 4,
        "email": "kate@example.com",
        "username": "kate",
        "full_name": "Kate",
        "is_active": True,
        "created_at": user["created_at"],
        "updated_at": user["created_at"],
    }
    assert datetime.fromisoformat(user["created_at"]).utcoffset() is not None
    assert await can_sign_in(client, "kate", KATE["password"])
    assert await can_sign_in(client, "kate@example.com", KATE["password"])


TWINS = {
    "kate@example.com": (
        *("kate@example.com", "KATE@EXAMPLE.COM", "Kate@Example.com"),
        "\u212aate@example.com",  # the Kelvin sign
        "ｋａｔｅ＠ｅｘａｍｐｌｅ．ｃｏｍ",
    ),
    "Jess@example.com": ("jess@example.com", "je\u017f\u017f@example.com"),  # the long s
    "fiona@example.com": ("\ufb01ona@example.com",),  # a ligature
    "jos\u00e9@example.com": ("jose\u0301@example.com", "JOS\u00c9@example.com"),
    "strasse@example.com": ("stra\u00dfe@example.com",),
    "kate@stra\u00dfe.example.com": ("kate@xn--strae-oqa.example.com",),
    "kate@b\u00fccher.example.com": ("kate@xn--bcher-kva.example.com",),
}


async def test_email_is_taken_however_it_is_written(client: httpx2.AsyncClient) -> None:
    for number, (first, twins) in enumerate(TWINS.items()):
        await sign_up(client, email=first, username=f"kate{number}")
        for twin in twins:
            answer = await client.post("/users/", json=KATE | {"email": twin, "username": "other"})
            assert (answer.status_code, answer.json()["detail"]) == (400, EMAIL_TAKEN), twin
            assert await can_sign_in(client, twin, KATE["password"]), twin


async def test_username_is_taken_whatever_its_case(client: httpx2.AsyncClient) -> None:
    await sign_up(client, username="Kate")
    for twin in ("Kate", "kate", "KATE"):
        body = KATE | {"email": "other@example.com", "username": twin}
        answer = await client.post("/users/", json=body)
        assert (answer.status_code, answer.json()["detail"]) == (400, USERNAME_TAKEN), twin
        assert await can_sign_in(client, twin, KATE["password"])


async def test_one_of_many_sign_ups_at_once_succeeds(
    client: httpx2.AsyncClient, admin: httpx2.AsyncClient
) -> None:
    answers = await asyncio.gather(
        *(
            client.post("/users/", json=KATE | {"email": email, "username": f"kate{number}"})
            for number, email in enumerate(["kate@example.com", "KATE@example.com"] * 4)
        )
    )
    assert sorted(answer.status_code for answer in answers) == [201, *[400] * 7]
    assert {a.json()["detail"] for a in answers if a.status_code == 400} == {EMAIL_TAKEN}
    assert (await admin.get("/users/")).json()["total"] == 4


WRONG: dict[str, tuple[object, ...]] = {
    "password": (
        *("Aa34567", "Aa3" + "x" * 126, "Aa3" + "x" * 1_000_000),
        *("lower-case-1", "UPPER-CASE-1", "No-Digit", "", None, 12345678),
    ),
    "username": (
        *("ab", "a" * 51, "k ate", "kate@example", "kate\n", "kate\x00", "", None),
        *("k\u0430te", "\uff4bate", "\u202ekate"),  # a Cyrillic a, a wide k, right to left
    ),
    "email": (
        *("kate", "kate@", "@example.com", "kate@example.com@example.com", "", None),
        *("kate@example.com\r\nBcc: all@example.com", "Kate <kate@example.com>"),
        *("ka\u200bte@example.com", "kate\x00@example.com", "\u202ekate@example.com"),
        f"kate@{'a' * 63}.{'b' * 63}.{'c' * 63}.{'d' * 54}.com",
    ),
    "full_name": ("", "   ", "x" * 201, "\u202ekate", "kate\x00", "ka\nte", 1, []),
}


async def test_wrong_sign_up_is_refused(
    client: httpx2.AsyncClient, admin: httpx2.AsyncClient
) -> None:
    for field, values in WRONG.items():
        for value in values:
            answer = await client.post("/users/", json=KATE | {field: value})
            assert answer.status_code == 422, (field, value)
            assert [error["loc"] for error in answer.json()["errors"]] == [["body", field]]
    assert (await admin.get("/users/")).json()["total"] == 3


async def test_password_is_taken_exactly_as_sent(client: httpx2.AsyncClient) -> None:
    shortest, longest = "Aa345678", "Aa3" + "x" * 125
    for number, password in enumerate((shortest, longest, " Aa3 blanks ", "Aa3-\u0301\u00e9-🔑")):
        name = f"kate{number}"
        await sign_up(client, email=f"{name}@example.com", username=name, password=password)
        assert await can_sign_in(client, name, password)
        for other in (password[:-1], password[:-1] + "?", password.swapcase()):
            assert not await can_sign_in(client, name, other)


async def test_absent_fields_stay_and_null_empties(alice: httpx2.AsyncClient) -> None:
    for method in ("PUT", "PATCH"):
        before = (await alice.get("/users/me")).json()

        named = (await alice.request(method, "/users/me", json={"full_name": "  Alice A. "})).json()
        assert named == before | {"full_name": "Alice A.", "updated_at": named["updated_at"]}
        assert named["updated_at"] > before["updated_at"]

        assert (await alice.request(method, "/users/me", json={})).json() == named

        emptied = (await alice.request(method, "/users/me", json={"full_name": None})).json()
        assert emptied == before | {"updated_at": emptied["updated_at"]}
        assert (await alice.get("/users/me")).json() == emptied


REFUSED: tuple[dict[str, object], ...] = (
    {"email": None},
    {"password": None},
    {"username": "alice2"},
    {"is_active": False},
    {"full_nam": "Alice"},
    {"full_name": ""},
    {"password": "short1A"},
    {"email": "not an address"},
)


async def test_wrong_change_of_oneself_is_refused(alice: httpx2.AsyncClient) -> None:
    before = (await alice.get("/users/me")).json()
    for change in REFUSED:
        body = change | {"current_password": ALICE.password}
        for method in ("PUT", "PATCH"):
            answer = await alice.request(method, "/users/me", json=body)
            assert answer.status_code == 422, (method, change)
            assert answer.json()["errors"][0]["loc"] == ["body", *change]
    assert (await alice.get("/users/me")).json() == before


SECRETS = [{"password": "New-Pass-1"}, {"email": "new@example.com"}]
NO_PROOF: tuple[dict[str, object], ...] = (
    {},
    {"current_password": None},
    {"current_password": ""},
    {"current_password": BOB.password},
)


@pytest.mark.parametrize("change", SECRETS, ids=["password", "email"])
async def test_secrets_change_only_with_the_current_password(
    alice: httpx2.AsyncClient, change: dict[str, str]
) -> None:
    old = {"email": ALICE.email, "password": ALICE.password}
    proof = {"current_password": ALICE.password}
    for method in ("PUT", "PATCH"):
        for no_proof in NO_PROOF:
            answer = await alice.request(method, "/users/me", json=change | no_proof)
            assert answer.status_code == 403, no_proof
            assert answer.json()["code"] == "not_permitted"
        assert await can_sign_in(alice, ALICE.email, ALICE.password)

        answer = await alice.request(method, "/users/me", json=change | proof)
        assert answer.status_code == 200
        assert "New-Pass-1" not in answer.text
        new = old | change
        assert await can_sign_in(alice, new["email"], new["password"])
        assert not await can_sign_in(alice, ALICE.email, ALICE.password)

        back = old | {"current_password": new["password"]}
        assert (await alice.patch("/users/me", json=back)).status_code == 200


async def test_email_of_another_is_taken(alice: httpx2.AsyncClient) -> None:
    body = {"email": BOB.email.upper(), "current_password": ALICE.password}
    answer = await alice.patch("/users/me", json=body)
    assert (answer.status_code, answer.json()["detail"]) == (400, EMAIL_TAKEN)
    assert (await alice.get("/users/me")).json()["email"] == ALICE.email


async def test_own_email_in_another_case_is_no_conflict(alice: httpx2.AsyncClient) -> None:
    body = {"email": ALICE.email.upper(), "current_password": ALICE.password}
    answer = await alice.patch("/users/me", json=body)
    assert (answer.status_code, answer.json()["email"]) == (200, ALICE.email)
