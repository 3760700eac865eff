"""A PUT of what GET gave is taken: what stays is passed over, what cannot change is named."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import httpx2
import pytest

from specimen.factories import create
from timberframe.testing import ALICE

ME = "/users/me"
# True is 1 to Python, and no id to JSON.
UNEQUAL: dict[str, Any] = {
    "id": [0, 1.5, "1", True, None, {}],
    "created_at": ["2000-01-01T00:00:00Z", "2000-01-01T00:00:00", "", "Z", "1", None, 0, True, []],
    "updated_at": ["2000-01-01T00:00:00Z", None, 0],
}
# Written by hand, because Python's writers refuse or change them.
ODD_VALUES = (r'"\ud800"', r'"2026-11-24T12:00:00\ud800"', "1e-400", "1e400", f"1{'0' * 399}")


@pytest.fixture
async def product(alice: httpx2.AsyncClient) -> dict[str, Any]:
    return await create(alice, description="Oak", tags=["oak"], stock=1)


async def test_put_of_the_same_written_otherwise_changes_nothing(
    alice: httpx2.AsyncClient, product: dict[str, Any]
) -> None:
    """As clients do that read times and numbers into types of their own."""
    for path in (f"/products/{product['id']}", ME):
        before = await alice.get(path)
        for zone in (UTC, timezone(timedelta(hours=2))):
            sent = before.json()
            for name in ("created_at", "updated_at"):
                sent[name] = datetime.fromisoformat(sent[name]).astimezone(zone).isoformat()
            sent["id"] = float(sent["id"])
            answer = await alice.put(path, json=sent)
            assert (answer.status_code, answer.json()) == (200, before.json()), zone
            assert answer.headers["etag"] == before.headers["etag"]


async def test_other_value_of_what_cannot_change_is_named(
    alice: httpx2.AsyncClient, product: dict[str, Any]
) -> None:
    path = f"/products/{product['id']}"
    wrong = UNEQUAL | {"owner_id": [2, "1", None]}
    for name, values in wrong.items():
        for value in values:
            answer = await alice.put(path, json=product | {"name": "New", name: value})
            assert answer.status_code == 422, (name, value)
            [error] = answer.json()["errors"]
            assert error["loc"] == ["body", name]
    me = (await alice.get(ME)).json()
    answer = await alice.put(ME, json=me | {"username": "other"})
    assert [error["loc"] for error in answer.json()["errors"]] == [["body", "username"]]
    assert (await alice.get(path)).json() == product


async def test_value_that_python_cannot_compare_is_named(
    alice: httpx2.AsyncClient, product: dict[str, Any]
) -> None:
    for path in (f"/products/{product['id']}", ME):
        for name in ("id", "created_at"):
            for value in ODD_VALUES:
                content = f'{{"{name}": {value}}}'
                headers = {"Content-Type": "application/json"}
                answer = await alice.put(path, content=content, headers=headers)
                assert answer.status_code == 422, content
                assert [error["loc"] for error in answer.json()["errors"]] == [["body", name]]


async def test_equal_value_of_another_type_is_still_looked_at(
    alice: httpx2.AsyncClient, product: dict[str, Any]
) -> None:
    path = f"/products/{product['id']}"
    for name, value in (("stock", True), ("is_active", 1), ("tags", "oak"), ("name", ["Chair"])):
        answer = await alice.put(path, json=product | {name: value})
        assert [error["loc"][1] for error in answer.json()["errors"]] == [name]


async def test_patch_takes_changes_alone(
    alice: httpx2.AsyncClient, product: dict[str, Any]
) -> None:
    answer = await alice.patch(f"/products/{product['id']}", json={"id": product["id"]})
    assert answer.status_code == 422


async def test_own_address_sent_back_needs_no_password(alice: httpx2.AsyncClient) -> None:
    me = (await alice.get(ME)).json()
    answer = await alice.put(ME, json=me | {"full_name": "Alice"})
    assert (answer.status_code, answer.json()["full_name"]) == (200, "Alice")
    answer = await alice.put(ME, json=me | {"email": "other@example.com"})
    assert answer.status_code in (403, 422)
    assert (await alice.get(ME)).json()["email"] == ALICE.email


async def test_body_that_is_no_object_is_refused_as_ever(
    alice: httpx2.AsyncClient, product: dict[str, Any]
) -> None:
    for body in ([], [product], None, 1, "id"):
        answer = await alice.put(f"/products/{product['id']}", json=body)
        assert answer.status_code == 422
    answer = await alice.put(f"/products/{product['id']}", content=b"id")
    assert answer.status_code == 415
