"""Guessing passwords: each guess is counted before it is checked, on every path that checks one."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from io import StringIO
from itertools import cycle
from typing import Any

import httpx2
import pytest
from limits import RateLimitItemPerMinute
from pwdlib.hashers.argon2 import Argon2Hasher
from pwdlib.hashers.bcrypt import BcryptHasher
from sqlalchemy import update

from specimen import models
from specimen.config import settings
from specimen.main import app
from timberframe.accounts import Account
from timberframe.data.session import Database
from timberframe.http import sign_in
from timberframe.logging import LineWriter
from timberframe.security.rate_limit import Attempt
from timberframe.testing import ALICE, BOB, set_limits

LIMIT = 3
WRONG = "Wrong-Pass-1"


@pytest.fixture(autouse=True)
def low_limit_per_account(monkeypatch: pytest.MonkeyPatch) -> None:
    limit_to(monkeypatch, "per_account", LIMIT)


def limit_to(monkeypatch: pytest.MonkeyPatch, name: str, amount: int) -> None:
    set_limits(app, monkeypatch, **{name: RateLimitItemPerMinute(amount, 15, name)})


@pytest.fixture
def hashes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One entry for each password hash that is computed from now on: who, and of what."""
    computed: list[str] = []

    def counted(compute: Callable[..., Any]) -> Callable[..., Any]:
        def count_and_compute(hasher: Any, password: str, *args: Any, **kwargs: Any) -> Any:
            computed.append(f"{type(hasher).__name__} {password}")
            return compute(hasher, password, *args, **kwargs)

        return count_and_compute

    for hasher in (Argon2Hasher, BcryptHasher):
        for name in ("hash", "verify"):
            monkeypatch.setattr(hasher, name, counted(getattr(hasher, name)))
    return computed


async def guess(
    client: httpx2.AsyncClient, login: str = ALICE.name, password: str = WRONG
) -> httpx2.Response:
    return await client.post("/auth/login", data={"username": login, "password": password})


async def at_once(count: int, one: Callable[[], Awaitable[httpx2.Response]]) -> Counter[int]:
    answers = await asyncio.gather(*(one() for _ in range(count)))
    return Counter(answer.status_code for answer in answers)


def shown(answer: httpx2.Response) -> tuple[Any, ...]:
    """All of an answer but what tells one request from another."""
    per_request = {"request_id", "x-request-id", "date"}
    body = {name: value for name, value in answer.json().items() if name not in per_request}
    headers = {name: value for name, value in answer.headers.items() if name not in per_request}
    return answer.status_code, body, headers


async def test_each_attempt_computes_one_hash_whoever_it_is_for(
    client: httpx2.AsyncClient, admin: httpx2.AsyncClient, hashes: list[str]
) -> None:
    await admin.patch(f"/users/{BOB.id}", json={"is_active": False})
    for login, password, status in (
        (ALICE.name, ALICE.password, 200),
        (ALICE.email, WRONG, 401),
        ("nobody", WRONG, 401),
        ("nobody@example.com", WRONG, 401),
        ("not a name", WRONG, 401),
        (BOB.name, BOB.password, 401),
        (BOB.name, WRONG, 401),
    ):
        hashes.clear()
        assert (await guess(client, login, password)).status_code == status
        assert hashes == [f"Argon2Hasher {password}"], login


async def test_ten_failures_are_allowed_to_an_account_whether_it_exists_or_not(
    client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch, hashes: list[str]
) -> None:
    limit_to(monkeypatch, "per_account", settings.SIGN_IN_FAILURES_PER_ACCOUNT)
    for login in (ALICE.email, "nobody@example.com"):
        hashes.clear()
        wrong = [await guess(client, login) for _ in range(10)]
        assert hashes == [f"Argon2Hasher {WRONG}"] * 10, login
        hashes.clear()
        limited = [await guess(client, login), await guess(client, login, ALICE.password)]
        assert {str(shown(answer)) for answer in (*wrong, *limited)} == {str(shown(wrong[0]))}
        assert wrong[0].status_code == 401
        # The work of a wrong password is done, on none that was sent.
        assert [each.partition(" ")[0] for each in hashes] == ["Argon2Hasher"] * 2
        assert not any(password in str(hashes) for password in (WRONG, ALICE.password))
        assert (await guess(client, BOB.name, BOB.password)).status_code == 200


async def test_full_counter_does_not_tell_which_names_share_it(client: httpx2.AsyncClient) -> None:
    """Alice's two names are told apart from any other two by nothing."""
    for _ in range(LIMIT + 2):
        assert (await guess(client, ALICE.email)).status_code == 401
    probes = [await guess(client, other) for other in (ALICE.name, BOB.name, "nobody-at-all")]
    assert len({str(shown(answer)) for answer in probes}) == 1


async def test_full_counter_of_an_outdated_hash_costs_what_a_wrong_password_costs(
    client: httpx2.AsyncClient, database: Database, hashes: list[str]
) -> None:
    old = BcryptHasher(rounds=4).hash(ALICE.password)
    async with database.transaction() as db:
        await db.execute(update(models.User).values(hashed_password=old))
    for _ in range(LIMIT):
        assert (await guess(client)).status_code == 401
    hashes.clear()
    assert (await guess(client, ALICE.name, ALICE.password)).status_code == 401
    assert [each.partition(" ")[0] for each in hashes] == ["BcryptHasher"]


async def test_account_that_is_limited_is_logged(
    client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = StringIO()
    monkeypatch.setattr(LineWriter, "stream", output)
    for _ in range(LIMIT + 1):
        await guess(client)
    lines = [line for line in output.getvalue().splitlines() if "account_limited" in line]
    assert len(lines) == 1
    assert f"user_id={ALICE.id}" in lines[0]


async def test_guesses_sent_at_once_do_not_slip_by(
    client: httpx2.AsyncClient, hashes: list[str]
) -> None:
    for number, login in enumerate((ALICE.name, "nobody"), start=1):
        assert await at_once(50, partial(guess, client, login)) == {401: 50}, login
        assert hashes.count(f"Argon2Hasher {WRONG}") == number * LIMIT, login


class CountedAfterTheCheck(sign_in.PasswordCheck):
    """The mistake that the test above is there to find."""

    async def _check(
        self, account: str, user: Account | None, password: str, from_address: Attempt
    ) -> bool:
        is_right, _ = await self.accounts.passwords.verify(
            password, user.hashed_password if user else None
        )
        if not is_right:
            await self.limiter.take(self.limits.per_account, account)
        return is_right


async def test_guesses_sent_at_once_would_slip_by_if_counted_after_the_check(
    client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch, hashes: list[str]
) -> None:
    monkeypatch.setattr(sign_in, "PasswordCheck", CountedAfterTheCheck)
    await at_once(20, lambda: guess(client))
    assert hashes.count(f"Argon2Hasher {WRONG}") > LIMIT


async def test_right_password_does_not_use_up_the_limit(client: httpx2.AsyncClient) -> None:
    for _ in range(2 * LIMIT):
        assert (await guess(client, ALICE.name, ALICE.password)).status_code == 200
    for _ in range(LIMIT - 1):
        assert (await guess(client)).status_code == 401
        assert (await guess(client, ALICE.name, ALICE.password)).status_code == 200
    # Nor does it wipe out the failures before it.
    assert (await guess(client)).status_code == 401
    assert (await guess(client, ALICE.name, ALICE.password)).status_code == 401


async def test_right_passwords_sent_at_once_do_not_fill_the_counter(
    client: httpx2.AsyncClient,
) -> None:
    both = cycle((ALICE.name, ALICE.email))
    assert await at_once(20, lambda: guess(client, next(both), ALICE.password)) == {200: 20}


async def test_names_of_an_account_and_its_current_password_share_one_limit(
    client: httpx2.AsyncClient, alice: httpx2.AsyncClient
) -> None:
    change = {"email": "new@example.com", "current_password": WRONG}
    assert (await guess(client, "Alice@Example.com")).status_code == 401
    assert (await guess(client, "ALICE")).status_code == 401
    assert (await alice.put("/users/me", json=change)).status_code == 403
    right = change | {"current_password": ALICE.password}
    for login in (ALICE.email, ALICE.name):
        assert (await guess(client, login, ALICE.password)).status_code == 401
    # Who is signed in knows both names: they are told when to come back.
    for answer in (
        await alice.put("/users/me", json=right),
        await alice.patch("/users/me", json=right),
    ):
        assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
        assert 0 < int(answer.headers["retry-after"]) <= 15 * 60
    assert (await alice.get("/users/me")).json()["email"] == ALICE.email


async def test_right_current_password_does_not_use_up_the_limit(alice: httpx2.AsyncClient) -> None:
    for n in range(2 * LIMIT):
        change = {"email": f"alice{n}@example.com", "current_password": ALICE.password}
        assert (await alice.put("/users/me", json=change)).status_code == 200


async def test_name_that_nobody_has_is_counted_once_however_it_is_spelt(
    client: httpx2.AsyncClient, hashes: list[str]
) -> None:
    for spellings in (
        ("nobody", "Nobody", "NOBODY"),
        ("nobody@example.com", "Nobody@Example.COM", "ｎobody@example.com"),
    ):
        hashes.clear()
        for login in spellings * 2:
            assert (await guess(client, login)).status_code == 401
        assert hashes.count(f"Argon2Hasher {WRONG}") == LIMIT


async def test_disabled_account_is_limited_like_any_other(
    client: httpx2.AsyncClient, admin: httpx2.AsyncClient, hashes: list[str]
) -> None:
    await admin.patch(f"/users/{BOB.id}", json={"is_active": False})
    for _ in range(LIMIT + 1):
        assert (await guess(client, BOB.name, BOB.password)).status_code == 401
    assert hashes.count(f"Argon2Hasher {BOB.password}") == LIMIT
