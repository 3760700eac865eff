"""Signing in: who gets a token, what the answer is, and which forms are refused."""

import json
import re
from typing import Any
from urllib.parse import urlencode

import httpx2
import pytest
from limits import RateLimitItemPerMinute

from specimen.config import settings
from specimen.main import app
from timberframe.app import SIGN_IN_MAX_BODY_BYTES
from timberframe.testing import ALICE, BOB, change_state, set_limits

FORM = "application/x-www-form-urlencoded"
RIGHT = {"username": ALICE.name, "password": ALICE.password}


async def test_user_signs_in_by_username_or_address_in_any_case(
    client: httpx2.AsyncClient,
) -> None:
    for login in (
        "alice",
        "ALICE",
        "aLiCe",
        ALICE.email,
        "Alice@Example.COM",
        "ａlice@example.com",
    ):
        answer = await client.post("/auth/login", data=RIGHT | {"username": login})
        assert answer.status_code == 200, login
        headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
        assert (await client.get("/users/me", headers=headers)).json()["id"] == ALICE.id


async def test_answer_is_a_bearer_token_that_is_not_to_be_stored(
    client: httpx2.AsyncClient,
) -> None:
    answer = await client.post("/auth/login", data=RIGHT)
    token = answer.json()
    assert token == {
        "access_token": token["access_token"],
        "token_type": "bearer",
        "expires_in": settings.ACCESS_TOKEN_EXPIRE_MINUTES * 60,
    }
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    again = await client.post("/auth/login", data=RIGHT)
    assert again.json()["access_token"] != token["access_token"]


async def test_every_reason_for_refusal_gives_one_and_the_same_answer(
    client: httpx2.AsyncClient, admin: httpx2.AsyncClient
) -> None:
    await admin.patch(f"/users/{BOB.id}", json={"is_active": False})
    attempts = {
        "wrong password": (ALICE.name, "Wrong-Pass-1"),
        "wrong password, by address": (ALICE.email, "Wrong-Pass-1"),
        "password in other case": (ALICE.name, ALICE.password.lower()),
        "password with a space": (ALICE.name, f"{ALICE.password} "),
        "no such user": ("nobody", ALICE.password),
        "no such address": ("nobody@example.com", ALICE.password),
        "no username at all": ("not a name", ALICE.password),
        "user disabled": (BOB.name, BOB.password),
        "user disabled, wrong password": (BOB.name, "Wrong-Pass-1"),
        "pattern": ("ali%", ALICE.password),
        "SQL": ("alice' --", ALICE.password),
        "NUL": ("alice\0", ALICE.password),
    }
    answers = {
        reason: await client.post("/auth/login", data={"username": login, "password": password})
        for reason, (login, password) in attempts.items()
    }
    shown = {reason: visible(answer) for reason, answer in answers.items()}
    expected = shown["wrong password"]
    assert expected["status"] == 401
    assert expected["body"]["detail"] == "Incorrect username or password"
    assert expected["body"]["error"] == "invalid_grant"
    assert expected["body"]["error_description"] == "Incorrect username or password"
    assert expected["headers"]["www-authenticate"] == "Bearer"
    assert {reason: seen for reason, seen in shown.items() if seen != expected} == {}


def visible(answer: httpx2.Response) -> dict[str, Any]:
    """All that an answer shows, but for the request id."""
    headers = {name: value for name, value in answer.headers.items() if name != "x-request-id"}
    body = {name: value for name, value in answer.json().items() if name != "request_id"}
    return {"status": answer.status_code, "headers": headers, "body": body}


async def test_answer_with_a_token_is_never_compressed(
    client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_state(app, monkeypatch, "tokens", issuer="i" * 5000)
    gzip = {"Accept-Encoding": "gzip"}
    token = await client.post("/auth/login", data=RIGHT, headers=gzip)
    assert token.status_code == 200
    assert len(token.content) > 5000
    assert "content-encoding" not in token.headers
    # Other answers of this size are.
    schema = await client.get("http://testserver/api/openapi.json", headers=gzip)
    assert schema.headers["content-encoding"] == "gzip"


MULTIPART = b'--x\r\nContent-Disposition: form-data; name="username"\r\n\r\nalice\r\n--x--\r\n'
REFUSED_FORMS: dict[str, tuple[str | None, str | bytes, int]] = {
    "username twice": (FORM, urlencode([*RIGHT.items(), ("username", "bob")]), 422),
    "username twice alike": (FORM, urlencode([*RIGHT.items(), ("username", "alice")]), 422),
    "password twice": (FORM, urlencode([*RIGHT.items(), ("password", "x")]), 422),
    "scope twice": (FORM, urlencode([*RIGHT.items(), ("scope", ""), ("scope", "")]), 422),
    "no username": (FORM, "password=x", 422),
    "no password": (FORM, "username=alice", 422),
    "empty": (FORM, "", 422),
    "no fields": (FORM, "&&&;;;===", 422),
    "other grant": (FORM, urlencode(RIGHT | {"grant_type": "client_credentials"}), 422),
    "long username": (FORM, urlencode(RIGHT | {"username": "a" * 255}), 422),
    "long password": (FORM, urlencode(RIGHT | {"password": "a" * 129}), 422),
    "long client": (FORM, urlencode(RIGHT | {"client_secret": "a" * 201}), 422),
    "scope of 1 kB": (FORM, urlencode(RIGHT | {"scope": "a" * 1001}), 422),
    "scope of 15 kB": (FORM, urlencode(RIGHT | {"scope": "a" * 15_000}), 422),
    "scope of 17 kB": (FORM, urlencode(RIGHT | {"scope": "a" * 17_000}), 413),
    "16 KiB of separators": (FORM, "a;" * 8 * 1024, 422),
    "more separators": (FORM, "&" * (16 * 1024 + 1), 413),
    "21 fields": (FORM, urlencode(RIGHT | {f"f{n}": "" for n in range(19)}), 400),
    "2000 fields": (FORM, urlencode([(f"f{n}", "x") for n in range(2000)]), 400),
    "JSON": ("application/json", '{"username": "alice", "password": "x"}', 415),
    # What `curl -d '{…}'` does: the whole body is one unknown field name, password and all.
    "JSON as form": (FORM, json.dumps(RIGHT), 422),
    "multipart": ("multipart/form-data; boundary=x", MULTIPART, 415),
    "multipart without boundary": ("multipart/form-data", MULTIPART, 400),
    "text": ("text/plain", urlencode(RIGHT), 415),
    "no type": (None, urlencode(RIGHT), 415),
    "almost the type": (f"{FORM}ed", urlencode(RIGHT), 415),
    "two types": (f"application/json, {FORM}", urlencode(RIGHT), 415),
}


async def test_bad_forms_are_refused(client: httpx2.AsyncClient) -> None:
    answers = {
        name: await post(client, media_type, content)
        for name, (media_type, content, _) in REFUSED_FORMS.items()
    }
    statuses = {name: answer.status_code for name, answer in answers.items()}
    assert statuses == {name: status for name, (_, _, status) in REFUSED_FORMS.items()}
    for answer in answers.values():
        assert answer.headers["content-type"] == "application/problem+json"
        assert len(answer.content) < 4096
        assert ALICE.password not in answer.text
    errors = {name: answer.json()["error"] for name, answer in answers.items()}
    assert errors.pop("other grant") == "unsupported_grant_type"
    assert set(errors.values()) == {"invalid_request"}


async def test_description_of_an_error_names_the_field_in_characters_of_the_standard(
    client: httpx2.AsyncClient,
) -> None:
    answer = await post(client, FORM, 'grant_type="\\é&username=alice')
    assert answer.json()["error"] == "unsupported_grant_type"
    description = answer.json()["error_description"]
    assert "grant_type: " in description
    assert "password: " in description
    assert re.fullmatch(r"[\x20\x21\x23-\x5b\x5d-\x7e]+", description)


async def test_too_many_attempts_are_an_error_of_oauth_too(
    client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_limits(app, monkeypatch, per_address=RateLimitItemPerMinute(1, 15, "test"))
    wrong = urlencode(RIGHT | {"password": "Wrong-Pass-1"})
    assert (await post(client, FORM, wrong)).status_code == 401
    answer = await post(client, FORM, wrong)
    assert answer.status_code == 429
    assert answer.json()["error"] == "temporarily_unavailable"


async def test_errors_elsewhere_are_not_those_of_oauth(client: httpx2.AsyncClient) -> None:
    for answer in (await client.get("/users/me"), await client.post("/users/", json={})):
        assert answer.is_client_error
        assert not {"error", "error_description"} & answer.json().keys()


async def test_standard_forms_are_taken(client: httpx2.AsyncClient) -> None:
    standard = {"grant_type": "password", "scope": "a b", "client_id": "c", "client_secret": "s"}
    extension = [("resource", "https://a.example"), ("resource", "https://b.example")]
    for media_type, content in (
        (FORM, urlencode(RIGHT)),
        (FORM, urlencode(RIGHT | standard)),
        (FORM, urlencode(RIGHT | {"grant_type": ""})),
        (FORM, urlencode(RIGHT | {"audience": "x", "is_superuser": "true"})),
        (FORM, urlencode([*RIGHT.items(), *extension])),
        (FORM, urlencode(RIGHT | {f"f{n}": "" for n in range(18)})),
        (f"{FORM}; charset=utf-8", urlencode(RIGHT)),
        (FORM.upper(), urlencode(RIGHT)),
    ):
        assert (await post(client, media_type, content)).status_code == 200, (media_type, content)


async def test_unknown_parameter_may_fill_the_body(client: httpx2.AsyncClient) -> None:
    """A token of another server, such as an `assertion`, is often longer than 4 KiB."""
    form = urlencode(RIGHT | {"assertion": ""})
    content = form + "x" * (SIGN_IN_MAX_BODY_BYTES - len(form))
    assert (await post(client, FORM, content)).status_code == 200
    assert (await post(client, FORM, content + "x")).status_code == 413
    answer = await post(client, FORM, urlencode(RIGHT | {"password": "x" * 5000}))
    assert (answer.status_code, answer.json()["error"]) == (422, "invalid_request")


async def test_bytes_that_are_no_text_are_wrong_and_no_error(client: httpx2.AsyncClient) -> None:
    for content in (
        b"username=alice&password=\xff\xfe",
        b"username=%ff%fe&password=%zz",
        b"username=%ed%a0%80&password=%ed%a0%80",
        b"username=%00&password=%00",
        b"username=a%0d%0ab&password=%1b%5b31m",
    ):
        assert (await post(client, FORM, content)).status_code == 401


async def post(
    client: httpx2.AsyncClient, media_type: str | None, content: str | bytes
) -> httpx2.Response:
    headers = {"Content-Type": media_type} if media_type else {}
    return await client.post("/auth/login", content=content, headers=headers)
