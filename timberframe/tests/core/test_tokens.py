"""Forged tokens: whatever is wrong with one, the answer is the same 401."""

import base64
import hashlib
import json
from typing import Any

import httpx2

from specimen.forged import (
    ATTACKER,
    HEADER,
    PUBLIC_PEM,
    Tokens,
    assert_all_refused_alike,
    claims,
    encoded,
    raw,
    right_key,
    token,
)


def wrong_algorithms() -> Tokens:
    unsigned = {alg: token({"alg": alg}).rpartition(".")[0] for alg in ("none", "None", "NONE")}
    return {
        **{f"{alg}, no signature": f"{forged}." for alg, forged in unsigned.items()},
        **{f"{alg}, two parts": forged for alg, forged in unsigned.items()},
        **{f"{alg}, signed": token(HEADER | {"alg": alg}) for alg in ("none", "nOnE", "", "hs256")},
        **{f"{alg}, HMAC": token(HEADER | {"alg": alg}) for alg in ("RS256", "ES256", "PS256")},
        "HS384": token(HEADER | {"alg": "HS384"}, digest=hashlib.sha384),
        "HS512": token(HEADER | {"alg": "HS512"}, digest=hashlib.sha512),
        "HS512 signed as HS256": token(HEADER | {"alg": "HS512"}),
        "HS256 signed as HS512": token(digest=hashlib.sha512),
        "no alg": token({"typ": "at+jwt"}),
        "alg null": token(HEADER | {"alg": None}),
        "alg list": token(HEADER | {"alg": ["HS256"]}),
        "alg object": token(HEADER | {"alg": {"HS256": 1}}),
    }


def wrong_keys() -> Tokens:
    key = right_key()
    jwk = {"kty": "oct", "k": encoded(ATTACKER)}
    guesses = {
        "empty": b"",
        "NUL": b"\0",
        "public PEM": PUBLIC_PEM,
        "JWK": json.dumps(jwk).encode(),
        "other": ATTACKER,
        "prefix": key[:-1],
        "longer": key + b"x",
        "in hex": key.hex().encode(),
    }
    pointers: dict[str, Any] = {
        "jwk": jwk,
        "jku": "https://attacker.example/keys.json",
        "x5u": "https://attacker.example/chain.pem",
        "x5c": [encoded(ATTACKER)],
        "kid": encoded(ATTACKER),
    }
    return {
        **{f"keyed by {name}": token(key=guess) for name, guess in guesses.items()},
        **{
            f"key in {name}": token(HEADER | {name: value}, key=ATTACKER)
            for name, value in pointers.items()
        },
        "kid path": token(HEADER | {"kid": "../../../../dev/null"}, key=b""),
        "kid SQL": token(HEADER | {"kid": "' UNION SELECT 'x' --"}, key=b"x"),
        "kid command": token(HEADER | {"kid": "|id"}, key=ATTACKER),
        "kid number": token(HEADER | {"kid": 1}),
    }


def wrong_headers() -> Tokens:
    deep = b'{"alg": "HS256", "typ": "at+jwt", "x": %s}' % (b"[" * 1200 + b"]" * 1200)
    types = ("JWT", "jwt", "", "rt+jwt", "at+jwt ", None, 1, ["at+jwt"])
    return {
        **{f"typ {typ!r}": token(HEADER | {"typ": typ}) for typ in types},
        "no typ": token({"alg": "HS256"}),
        "unknown crit": token(HEADER | {"crit": ["exp"], "exp": 1}),
        "empty crit": token(HEADER | {"crit": []}),
        "crit no list": token(HEADER | {"crit": "b64"}),
        "b64 false": token(HEADER | {"b64": False}),
        "b64 false, critical": token(HEADER | {"b64": False, "crit": ["b64"]}),
        "header list": token(b'["HS256"]'),
        "header null": token(b"null"),
        "header no JSON": token(b"alg=HS256"),
        "header not UTF-8": token(b'{"alg": "HS256", "typ": "at+jwt", "x": "\xff"}'),
        "header empty": token(b""),
        "header deep": token(deep),
        "header deep, unclosed": token(b"[" * 2000),
    }


def wrong_shapes() -> Tokens:
    good = token()
    head, body, signature = good.split(".")
    jwe = {"alg": "dir", "enc": "A256GCM"}
    return {
        "empty parts": "..",
        "one part": head,
        "two parts": f"{head}.{body}",
        "four parts": f"{good}.{signature}",
        "JWE of five parts": f"{token(jwe)}.{body}.{signature}",
        "JSON serialization": json.dumps({"payload": body, "signature": signature}),
        "50 kB": "a" * 50_000,
        "50 kB, dots": "." * 50_000,
        "over the limit but well signed": token(payload=claims(x="x" * 4000)),
        "deep payload": token(payload=raw("x", "[" * 1000 + "]" * 1000)),
        "payload list": token(payload=b'["sub"]'),
        "payload no JSON": token(payload=b"sub=1"),
        "payload empty": token(payload=b""),
        "payload of another": f"{head}.{token(payload=claims(sub='3')).split('.')[1]}.{signature}",
        "header of another": f"{token(HEADER | {'x': 1}).split('.')[0]}.{body}.{signature}",
    }


def wrong_signatures() -> Tokens:
    good = token()
    signed, _, signature = good.rpartition(".")
    whole = base64.urlsafe_b64decode(signature + "=")

    def with_signature(changed: bytes) -> str:
        return f"{signed}.{encoded(changed)}"

    flipped = {
        f"byte {n} flipped": with_signature(whole[:n] + bytes([whole[n] ^ 1]) + whole[n + 1 :])
        for n in range(len(whole))
    }
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    same_bytes = alphabet[alphabet.index(signature[-1]) ^ 1]
    return flipped | {
        "empty": f"{signed}.",
        "cut": with_signature(whole[:-1]),
        "longer": with_signature(whole + b"\0"),
        "zeros": with_signature(bytes(32)),
        "of another token": f"{signed}.{token(payload=claims(sub='2')).rpartition('.')[2]}",
        "unused bits set": f"{good[:-1]}{same_bytes}",
        "padded": f"{good}=",
        "padded twice": f"{good}==",
        "padded thrice": f"{good}===",
        "dot after": f"{good}.",
        "dot before": f".{good}",
        "space inside": f"{signed}. {signature}",
        "junk inside": f"{signed}.{signature[:9]}!{signature[9:]}",
        "not ASCII": f"{good}é",
    }


async def test_forged_tokens_are_all_refused_alike(client: httpx2.AsyncClient) -> None:
    await assert_all_refused_alike(
        client,
        wrong_algorithms(),
        wrong_keys(),
        wrong_headers(),
        wrong_shapes(),
        wrong_signatures(),
    )
