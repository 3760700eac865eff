"""Tokens signed with the right key, but with claims that are missing, mistyped or not ours."""

import time
from typing import Any

import httpx2
import pytest

from specimen.forged import Tokens, assert_all_refused_alike, claims, me, raw, token, without
from specimen.main import app
from timberframe.testing import change_state


def missing_and_mistyped_claims() -> Tokens:
    wrong: dict[str, tuple[Any, ...]] = {
        "exp": ("tomorrow", "", [], {}),
        "iat": ("yesterday", "", [], {}),
        "sub": (1, 1.0, True, ["1"], {"1": 1}),
        "iss": (1, True, ["specimen"], {"specimen": 1}),
        "aud": (1, True, {"specimen": 1}, [["specimen"]], ["specimen", 1], [None, "specimen"]),
        "jti": (1, True, ["0123456789abcdef"], {}),
    }
    return {
        **{f"no {name}": token(payload=without(claims(), name)) for name in wrong},
        **{f"{name} null": token(payload=claims(**{name: None})) for name in wrong},
        **{
            f"{name} {value!r}": token(payload=claims(**{name: value}))
            for name, values in wrong.items()
            for value in values
        },
    }


def wrong_claims() -> Tokens:
    now = int(time.time())
    nobody = ("2000000", "0", "-1", str(2**63), "9" * 2000, "", " ", "alice", "1.0", "1e0", "0x1")
    # What int() takes for alice's 1.
    alice = ("0_1", "+1", "01", " 1", "1 ", "\u0661")
    # Right as times, but no numbers.
    later, earlier = f"{now + 600:_}", f"{now - 600:_}"
    others: dict[str, tuple[Any, ...]] = {
        "exp": (now - 1, now - 0.5, 0, -1, -(10**300), later, str(now + 600)),
        "iat": (now + 3600, earlier, str(now - 600), True),
        "nbf": (now + 3600, "tomorrow", earlier, str(now - 600), True),
        "iss": ("", "m", "specime", "specimen2", "SPECIMEN", "specimen ", "https://specimen"),
        "aud": (
            "",
            "specime",
            "specimen2",
            "SPECIMEN",
            "specimen,other",
            [],
            ["other"],
            ["my", "api"],
            [""],
        ),
        "sub": nobody + alice,
    }
    numbers = {f"{c} {n}": raw(c, n) for c in ("exp", "iat") for n in ("NaN", "1e400", "-1e400")}
    return {
        **{f"{name}": token(payload=payload) for name, payload in numbers.items()},
        **{
            f"{name} {value!r}": token(payload=claims(**{name: value}))
            for name, values in others.items()
            for value in values
        },
    }


async def test_wrong_claims_are_all_refused_alike(client: httpx2.AsyncClient) -> None:
    await assert_all_refused_alike(client, missing_and_mistyped_claims(), wrong_claims())


async def test_token_of_another_purpose_or_place_is_refused(
    client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = token(payload=claims(iss="https://staging.example.com"))
    assert (await me(client, elsewhere))[0] == 401
    change_state(app, monkeypatch, "tokens", issuer="https://staging.example.com")
    assert (await me(client, elsewhere))[0] == 200
    change_state(app, monkeypatch, "tokens", audience="shop")
    assert (await me(client, elsewhere))[0] == 401
