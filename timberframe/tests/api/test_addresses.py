"""Limits per address: who counts as one caller, and whom a forwarding header is believed from."""

from itertools import count

import httpx2
import pytest
from fastapi import FastAPI
from limits import RateLimitItemPerMinute

from specimen.config import settings
from specimen.main import app
from timberframe.testing import ALICE, create_app, lifespan, set_limits

LIMIT = 2
names = count()


@pytest.fixture(autouse=True)
def low_limits_per_address(monkeypatch: pytest.MonkeyPatch) -> None:
    limit_addresses(app, monkeypatch)


def limit_addresses(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("per_address", "sign_ups")
    limits = {name: RateLimitItemPerMinute(LIMIT, 15, name) for name in names}
    set_limits(app, monkeypatch, **limits)


async def guess_from(
    address: str, *, forwarded: str | None = None, served_by: FastAPI = app
) -> int:
    """The status of a wrong guess at another name each time."""
    async with client_at(address, served_by) as client:
        form = {"username": f"nobody{next(names)}", "password": "Wrong-Pass-1"}
        headers = {"X-Forwarded-For": forwarded} if forwarded else {}
        answer = await client.post("/auth/login", data=form, headers=headers)
    if answer.status_code == 429:
        assert 0 < int(answer.headers["retry-after"]) <= 15 * 60
    return answer.status_code


def client_at(address: str, served_by: FastAPI = app) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(
        transport=httpx2.ASGITransport(served_by, client=(address, 50_000)),
        base_url="http://testserver/api/v1",
    )


async def guesses_from(*addresses: str) -> list[int]:
    return [await guess_from(address) for address in addresses]


async def test_address_is_limited_over_all_names(running_app: None) -> None:
    assert await guesses_from(*["192.0.2.1"] * 4) == [401, 401, 429, 429]
    assert await guesses_from("192.0.2.2", "192.0.2.3") == [401, 401]


async def test_right_password_does_not_use_up_the_limit_of_an_address(running_app: None) -> None:
    async with client_at("192.0.2.1") as client:
        form = {"username": ALICE.name, "password": ALICE.password}
        for _ in range(2 * LIMIT):
            assert (await client.post("/auth/login", data=form)).status_code == 200
    assert await guesses_from(*["192.0.2.1"] * 3) == [401, 401, 429]


async def test_ipv6_addresses_of_one_network_are_one_caller(running_app: None) -> None:
    one_customer = ("2001:db8:0:1::1", "2001:0DB8:0:1:ffff::2", "2001:db8::1:0:0:0:3")
    assert await guesses_from(*one_customer) == [401, 401, 429]
    assert await guesses_from("2001:db8:0:2::1", "2001:db8:1:1::1") == [401, 401]


async def test_ipv4_address_is_one_caller_however_it_is_written(running_app: None) -> None:
    spellings = ("192.0.2.1", "::ffff:192.0.2.1", "::FFFF:c000:201")
    assert await guesses_from(*spellings) == [401, 401, 429]
    assert await guesses_from("::ffff:192.0.2.2", "::ffff:192.0.2.3") == [401, 401]


async def test_callers_without_an_address_are_one_caller(running_app: None) -> None:
    assert await guesses_from("", "unix:/run/specimen.sock", "not an address") == [401, 401, 429]


async def test_forwarding_headers_of_strangers_are_ignored(running_app: None) -> None:
    spoofed = ("198.51.100.1", "198.51.100.2", "198.51.100.3, 127.0.0.1")
    statuses = [await guess_from("192.0.2.1", forwarded=header) for header in spoofed]
    assert statuses == [401, 401, 429]
    async with client_at("192.0.2.1") as client:
        for name in ("Forwarded", "X-Real-IP", "X-Client-IP", "True-Client-IP", "Client-IP"):
            form = {"username": "nobody", "password": "x"}
            headers = {name: "for=198.51.100.9" if name == "Forwarded" else "198.51.100.9"}
            answer = await client.post("/auth/login", data=form, headers=headers)
            assert answer.status_code == 429, name


async def test_trusted_proxy_is_believed_as_to_its_own_peer_alone(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "TRUSTED_PROXIES", ["10.0.0.0/8"])
    behind_proxy = create_app()
    limit_addresses(behind_proxy, monkeypatch)

    async def guess(forwarded: str, peer: str = "10.1.2.3") -> int:
        return await guess_from(peer, forwarded=forwarded, served_by=behind_proxy)

    async with lifespan(behind_proxy):
        # What stands left of the peer was written by the peer.
        for left in ("198.51.100.1, ", "198.51.100.2, 203.0.113.1, "):
            assert await guess(f"{left}192.0.2.1") == 401
        assert await guess("198.51.100.3, 192.0.2.1") == 429
        assert await guess("192.0.2.1, 10.9.9.9") == 429
        assert await guess("192.0.2.2") == 401
        for forwarded in ("198.51.100.1", "198.51.100.2"):
            assert await guess(forwarded, peer="192.0.2.3") == 401
        assert await guess("198.51.100.3", peer="192.0.2.3") == 429


async def test_sign_ups_from_one_address_are_limited(running_app: None) -> None:
    async def sign_up(address: str) -> httpx2.Response:
        name = f"user{next(names)}"
        user = {"email": f"{name}@example.com", "username": name, "password": "The-Same-1"}
        async with client_at(address) as client:
            return await client.post("/users/", json=user)

    for _ in range(LIMIT):
        assert (await sign_up("192.0.2.1")).status_code == 201
    refused = await sign_up("::ffff:192.0.2.1")
    assert refused.status_code == 429
    assert 0 < int(refused.headers["retry-after"]) <= 15 * 60
    assert (await sign_up("192.0.2.2")).status_code == 201
    # Signing up and signing in are counted apart.
    assert await guess_from("192.0.2.1") == 401
