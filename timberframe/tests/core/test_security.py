"""Credentials: Authorization headers, users who lose their rights, and stored passwords."""

import asyncio
import re
import time

import bcrypt
import httpx2
import pytest
from argon2 import PasswordHasher, Type
from limits import RateLimitItemPerMinute
from pwdlib.hashers.bcrypt import BcryptHasher
from sqlalchemy import select, update

from specimen import models
from specimen.crud import user_crud
from specimen.main import app
from timberframe.data.session import Database
from timberframe.security.passwords import HashCost, Passwords
from timberframe.testing import ADMIN, ALICE, BOB, Person, client_of, set_limits

# OWASP's Password Storage Cheat Sheet: 19 MiB, two passes, one lane.
OWASP_HASH = re.compile(r"\$argon2id\$v=19\$m=19456,t=2,p=1\$[^$]{22,}\$[^$]{43,}")
GOOD = ALICE.headers["Authorization"].encode()
TOKEN = GOOD.removeprefix(b"Bearer ")


MALFORMED: list[list[bytes]] = [
    [b""],
    [b"Bearer"],
    [b"Bearer "],
    [b"Bearer  "],
    [b"Bearer\t" + TOKEN],
    [b"Bearer\xa0" + TOKEN],
    [TOKEN],
    [b"Basic YWxpY2U6QWxpY2UtUGFzcy0x"],
    [b"Token " + TOKEN],
    [b"Bearer " + GOOD],
    [GOOD + b", " + GOOD],
    [GOOD + b" x"],
    [GOOD + b"\0"],
    [b"Bearer \xff\xfe\xfd"],
    [b"Bearer " + "ключ".encode()],
    [b"Bearer " + b"x" * 50_000],
    [b"x" * 50_000],
    [GOOD, GOOD],
    [GOOD, b"Basic YWxpY2U6QWxpY2UtUGFzcy0x"],
    [b"", GOOD],
]


async def test_malformed_authorization_is_refused_and_never_ignored(
    client: httpx2.AsyncClient,
) -> None:
    accepted = await client.get("/users/me", headers=[(b"authorization", GOOD)])
    assert accepted.status_code == 200
    for values in MALFORMED:
        headers = [(b"authorization", value) for value in values]
        for path in ("/users/me", "/products/"):
            answer = await client.get(path, headers=headers)
            assert answer.status_code == 401, values
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert answer.json()["detail"] == "Could not validate credentials"


CHALLENGES = {
    None: "Bearer",
    "Basic YWxpY2U6QWxpY2UtUGFzcy0x": "Bearer",
    "Bearer x": 'Bearer error="invalid_token"',
    "bearer x": 'Bearer error="invalid_token"',
    f"Bearer {TOKEN.decode()}x": 'Bearer error="invalid_token"',
}


async def test_challenge_names_an_error_only_where_a_bearer_token_was_sent(
    client: httpx2.AsyncClient,
) -> None:
    for sent, challenge in CHALLENGES.items():
        headers = {} if sent is None else {"Authorization": sent}
        answer = await client.get("/users/me", headers=headers)
        assert answer.status_code == 401, sent
        assert answer.headers["www-authenticate"] == challenge, sent


async def test_token_counts_in_the_authorization_header_alone(client: httpx2.AsyncClient) -> None:
    token = TOKEN.decode()
    for answer in (
        await client.get("/users/me"),
        await client.get("/users/me", params={"access_token": token}),
        await client.get("/users/me", headers={"Cookie": f"access_token={token}"}),
        await client.get("/users/me", headers={"X-Access-Token": token}),
        await client.post("/products/", data={"access_token": token}),
    ):
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
    assert (await client.get("/users/me", headers={"Authorization": f"bearer {token}"})).is_success


async def statuses(caller: httpx2.AsyncClient) -> set[int]:
    chair = {"sku": "CH-1", "name": "Chair", "price": "1"}
    answers = [
        await caller.get("/users/me"),
        await caller.put("/users/me", json={"full_name": "Me"}),
        await caller.post("/products/", json=chair),
        await caller.get("/products/"),
        await caller.get("/users/"),
    ]
    return {answer.status_code for answer in answers}


async def test_disabled_user_is_refused_from_the_next_request(
    admin: httpx2.AsyncClient, bob: httpx2.AsyncClient
) -> None:
    assert (await bob.get("/users/me")).status_code == 200
    assert (await admin.patch("/users/2", json={"is_active": False})).status_code == 200
    assert await statuses(bob) == {401}
    assert (await admin.patch("/users/2", json={"is_active": True})).status_code == 200
    assert (await bob.get("/users/me")).status_code == 200


async def test_disabled_superuser_is_refused_from_the_next_request(
    admin: httpx2.AsyncClient, bob: httpx2.AsyncClient
) -> None:
    assert (await admin.patch("/users/2", json={"is_superuser": True})).status_code == 200
    assert (await bob.get("/users/")).status_code == 200
    assert (await bob.patch("/users/3", json={"is_active": False})).status_code == 200
    assert await statuses(admin) == {401}


async def test_demoted_superuser_is_refused_from_the_next_request(
    admin: httpx2.AsyncClient, bob: httpx2.AsyncClient
) -> None:
    assert (await bob.get("/users/")).status_code == 403
    await admin.patch("/users/2", json={"is_superuser": True})
    assert (await bob.get("/users/1")).status_code == 200
    await admin.patch("/users/2", json={"is_superuser": False})
    for path in ("/users/", "/users/1"):
        assert (await bob.get(path)).status_code == 403
    assert (await bob.delete("/users/1")).status_code == 403
    assert (await bob.get("/users/me")).status_code == 200


async def test_token_of_a_deleted_user_fits_nobody_who_comes_later(
    client: httpx2.AsyncClient, admin: httpx2.AsyncClient
) -> None:
    carol = {"email": "carol@example.com", "username": "carol", "password": "Carol-Pass-1"}
    first_id = (await client.post("/users/", json=carol)).json()["id"]
    async with client_of(Person(first_id, "carol")) as deleted:
        assert (await deleted.get("/users/me")).status_code == 200
        assert (await admin.delete(f"/users/{first_id}")).status_code == 204
        assert await statuses(deleted) == {401}
        second_id = (await client.post("/users/", json=carol)).json()["id"]
        assert second_id != first_id
        assert await statuses(deleted) == {401}


async def sign_in(client: httpx2.AsyncClient, password: str = ALICE.password) -> int:
    form = {"username": ALICE.name, "password": password}
    return (await client.post("/auth/login", data=form)).status_code


async def stored(database: Database) -> models.User:
    async with database.reading() as db:
        return (await db.scalars(select(models.User).where(models.User.id == ALICE.id))).one()


async def store(database: Database, hashed_password: str) -> None:
    async with database.transaction() as db:
        statement = update(models.User).where(models.User.id == ALICE.id)
        await db.execute(statement.values(hashed_password=hashed_password))


def test_application_hashes_at_the_cost_that_owasp_recommends() -> None:
    """In the tests too, where `real_hashes` is asked for."""
    passwords = type(user_crud).passwords
    assert OWASP_HASH.fullmatch(asyncio.run(passwords.hash(ALICE.password)))


@pytest.mark.usefixtures("real_hashes")
async def test_passwords_are_stored_as_argon2id_and_each_with_its_own_salt(
    client: httpx2.AsyncClient, database: Database
) -> None:
    for name in ("carol", "dave"):
        user = {"email": f"{name}@example.com", "username": name, "password": "The-Same-1"}
        assert (await client.post("/users/", json=user)).status_code == 201
    changed = {"password": "Alice-Pass-2", "current_password": ALICE.password}
    assert (await client.put("/users/me", json=changed, headers=ALICE.headers)).status_code == 200
    async with database.reading() as db:
        own = models.User.username.in_(["alice", "carol", "dave"])
        hashes = list(await db.scalars(select(models.User.hashed_password).where(own)))
    assert len(set(hashes)) == len(hashes) == 3
    assert all(OWASP_HASH.fullmatch(hashed_password) for hashed_password in hashes)


def bcrypt_hash(password: str) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()


def weak_argon2_hash(password: str, type: Type = Type.ID) -> str:
    return PasswordHasher(time_cost=1, memory_cost=64, parallelism=1, type=type).hash(password)


OUTDATED = {
    "bcrypt": bcrypt_hash(ALICE.password),
    "bcrypt of PHP": bcrypt_hash(ALICE.password).replace("$2b$", "$2y$"),
    "weak argon2id": weak_argon2_hash(ALICE.password),
    "argon2i": weak_argon2_hash(ALICE.password, Type.I),
}


@pytest.mark.usefixtures("real_hashes")
async def test_outdated_hash_is_upgraded_once_at_sign_in(
    client: httpx2.AsyncClient, database: Database
) -> None:
    for scheme, outdated in OUTDATED.items():
        await store(database, outdated)
        before = await stored(database)
        assert await sign_in(client, "Wrong-Pass-1") == 401
        assert (await stored(database)).hashed_password == outdated, scheme

        assert await sign_in(client) == 200, scheme
        upgraded = await stored(database)
        assert OWASP_HASH.fullmatch(upgraded.hashed_password), scheme
        assert upgraded.updated_at == before.updated_at

        assert await sign_in(client) == 200
        assert (await stored(database)).hashed_password == upgraded.hashed_password, scheme


@pytest.mark.usefixtures("real_hashes")
async def test_outdated_hash_is_upgraded_by_many_sign_ins_at_once(
    client: httpx2.AsyncClient, database: Database
) -> None:
    await store(database, OUTDATED["bcrypt"])
    assert await asyncio.gather(*(sign_in(client) for _ in range(5))) == [200] * 5
    assert OWASP_HASH.fullmatch((await stored(database)).hashed_password)
    assert await sign_in(client) == 200


async def test_upgrade_does_not_undo_the_change_of_password_that_caused_it(
    client: httpx2.AsyncClient, alice: httpx2.AsyncClient, database: Database
) -> None:
    await store(database, OUTDATED["bcrypt"])
    changed = {"password": "Alice-Pass-2", "current_password": ALICE.password}
    assert (await alice.put("/users/me", json=changed)).status_code == 200
    assert await sign_in(client) == 401
    assert await sign_in(client, "Alice-Pass-2") == 200


async def test_password_longer_than_bcrypt_reads_is_wrong_and_no_error(
    client: httpx2.AsyncClient, database: Database
) -> None:
    longest = "Aa1" * 24
    await store(database, bcrypt_hash(longest))
    for longer in (f"{longest}x", "é" * 60, "x" * 128):
        assert await sign_in(client, longer) == 401
    assert await sign_in(client, longest) == 200
    assert await sign_in(client, f"{longest}x") == 401


class RecordedBcrypt(BcryptHasher):
    """Another hasher, and what it was asked to do."""

    def __init__(self) -> None:
        super().__init__(rounds=4)
        self.work: list[str] = []

    def hash(self, password: str | bytes, *, salt: bytes | None = None) -> str:
        self.work.append(f"hash {password!r}")
        return super().hash(password, salt=salt)

    def verify(self, password: str | bytes, hash: str | bytes) -> bool:
        self.work.append(f"verify {password!r}")
        return super().verify(password, hash)


async def test_hashes_of_before_are_verified_and_upgraded_to_those_of_another_hasher(
    client: httpx2.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_crud, "passwords", Passwords(BcryptHasher(rounds=4)))
    before = (await stored(database)).hashed_password
    assert before.startswith("$argon2id$")
    assert await sign_in(client, "Wrong-Pass-1") == 401
    assert (await stored(database)).hashed_password == before

    assert await sign_in(client) == 200
    upgraded = (await stored(database)).hashed_password
    assert BcryptHasher.identify(upgraded)
    assert await sign_in(client) == 200
    assert await sign_in(client, "Wrong-Pass-1") == 401
    assert (await stored(database)).hashed_password == upgraded

    user = {"email": "carol@example.com", "username": "carol", "password": "Carol-Pass-1"}
    carol = await client.post("/users/", json=user)
    async with database.reading() as db:
        query = select(models.User.hashed_password).where(models.User.id == carol.json()["id"])
        assert BcryptHasher.identify(str(await db.scalar(query)))


async def test_password_that_the_new_hasher_does_not_take_keeps_its_hash(
    client: httpx2.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_crud, "passwords", Passwords(BcryptHasher(rounds=4)))
    long = "Aa1" * 25
    await store(database, weak_argon2_hash(long))
    before = (await stored(database)).hashed_password
    assert await sign_in(client, f"{long}x") == 401
    assert await sign_in(client, long) == 200
    assert (await stored(database)).hashed_password == before


async def test_hashes_of_no_named_hasher_let_nobody_in(
    client: httpx2.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasher = BcryptHasher(rounds=4)
    monkeypatch.setattr(user_crud, "passwords", Passwords(hasher, also_verifies=()))
    assert await sign_in(client) == 401
    await store(database, hasher.hash(ALICE.password))
    assert await sign_in(client) == 200


async def test_password_of_nobody_costs_what_any_other_does(
    client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Times would tell who has an account otherwise."""
    hasher = RecordedBcrypt()
    monkeypatch.setattr(user_crud, "passwords", Passwords(hasher))
    assert await sign_in(client) == 200  # from here on the hash is that of the hasher
    hasher.work.clear()
    assert await sign_in(client, "Wrong-Pass-1") == 401
    nobody = {"username": "nobody", "password": "Wrong-Pass-1"}
    assert (await client.post("/auth/login", data=nobody)).status_code == 401
    assert hasher.work == ["verify 'Wrong-Pass-1'", "hash 'Wrong-Pass-1'"]


async def test_password_of_nobody_is_hashed_at_the_cost_that_is_set() -> None:
    costly = Passwords(HashCost(memory_kib=64 * 1024, passes=3, lanes=1))
    cheap = Passwords(HashCost(memory_kib=8, passes=1, lanes=1))
    seconds = []
    for passwords in (costly, cheap):
        start = time.perf_counter()
        assert await passwords.verify(ALICE.password, None) == (False, None)
        seconds.append(time.perf_counter() - start)
    assert seconds[0] > 10 * seconds[1]


UNKNOWN = (
    "",
    "!",
    ALICE.password,
    "pbkdf2_sha256$600000$c2FsdA$aGFzaA==",
    "$6$rounds=5000$salt$hash",
    "$argon2id$nonsense",
    "$argon2id$v=19$m=19456,t=2,p=1$",
    "$argon2id$v=19$m=1,t=0,p=0$c2FsdHNhbHQ$aGFzaGhhc2g",
    "$2b$99$" + "a" * 53,
)


async def test_hash_of_unknown_format_lets_nobody_in(
    client: httpx2.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_limits(app, monkeypatch, per_account=RateLimitItemPerMinute(100))
    for unknown in UNKNOWN:
        await store(database, unknown)
        for password in (ALICE.password, unknown or "x"):
            assert await sign_in(client, password) == 401, unknown
        assert (await stored(database)).hashed_password == unknown


async def test_cast_is_signed_in_by_the_password_of_each_alone(client: httpx2.AsyncClient) -> None:
    for person in (ALICE, BOB, ADMIN):
        for password in (ALICE.password, BOB.password, ADMIN.password):
            form = {"username": person.name, "password": password}
            answer = await client.post("/auth/login", data=form)
            assert answer.status_code == (200 if password == person.password else 401)
