"""Tokens built by hand, to build any nonsense."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import httpx2

from specimen.config import settings
from timberframe.testing import ALICE

Tokens = dict[str, str]

HEADER = {"alg": "HS256", "typ": "at+jwt"}
ATTACKER = b"a-key-of-the-attacker-0123456789abcdef"
# Any public key would do: there is none that this API trusts.
PUBLIC_PEM = b"""-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEEVs/o5+uQbTjL3chynL4wXgUg2R9
q9UU8I5mEovUf86QZ7kOBIjJwqnzD1omageEHWwHdBO6B+dFabmdT9POxg==
-----END PUBLIC KEY-----
"""


def right_key() -> bytes:
    return settings.SECRET_KEY.get_secret_value().encode()


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    return {
        "iss": "specimen",
        "aud": "specimen",
        "sub": str(ALICE.id),
        "iat": now,
        "exp": now + 600,
        "jti": "0123456789abcdef",
    } | changes


def without(values: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != name}


def encoded(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


def token(
    header: dict[str, Any] | bytes | None = None,
    payload: dict[str, Any] | bytes | None = None,
    *,
    key: bytes | None = None,
    digest: Callable[..., Any] = hashlib.sha256,
) -> str:
    """A token that is accepted, but for what is changed: built by hand, to build any nonsense."""
    header = HEADER if header is None else header
    payload = claims() if payload is None else payload
    parts = (p if isinstance(p, bytes) else json.dumps(p).encode() for p in (header, payload))
    signing_input = ".".join(encoded(part) for part in parts)
    signature = hmac.digest(right_key() if key is None else key, signing_input.encode(), digest)
    return f"{signing_input}.{encoded(signature)}"


def raw(name: str, value: str, **others: Any) -> bytes:
    """Claims with one as no JSON library of Python's would write it."""
    return f'{json.dumps(claims(**others))[:-1]}, "{name}": {value}}}'.encode()


async def me(client: httpx2.AsyncClient, token: str) -> tuple[int, str, Any, str | None]:
    """The status, what the body mainly says, all it says but the request id, the challenge."""
    headers = [(b"authorization", f"Bearer {token}".encode())]
    answer = await client.get("/users/me", headers=headers)
    body = without(answer.json(), "request_id")
    said = body.get("detail") or body["email"]
    return answer.status_code, said, body, answer.headers.get("www-authenticate")


async def assert_all_refused_alike(client: httpx2.AsyncClient, *forgeries: Tokens) -> None:
    assert (await me(client, token()))[:2] == (200, ALICE.email)
    refusal = await me(client, "x")
    assert refusal[:2] == (401, "Could not validate credentials")
    for some in forgeries:
        answers = {name: await me(client, forged) for name, forged in some.items()}
        assert {name: answer for name, answer in answers.items() if answer != refusal} == {}
