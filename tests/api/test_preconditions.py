"""ETag, If-Match and If-None-Match: RFC 9110 section 13."""

from typing import Any, NamedTuple

import httpx2
import pytest
from fastapi.routing import iter_route_contexts

from app.main import app
from tests.api.cases import resources
from tests.api.test_products import CHAIR, create
from tests.conftest import ALICE, BOB, change_state

ME = "/users/me"
ALICE_BY_ADMIN = f"/users/{ALICE.id}"


async def etag_at(client: httpx2.AsyncClient, path: str) -> str:
    return str((await client.get(path)).headers["etag"])


@pytest.fixture
async def product(alice: httpx2.AsyncClient) -> str:
    """The path of alice's product."""
    return f"/products/{(await create(alice))['id']}"


async def test_every_answer_with_a_state_names_it(
    alice: httpx2.AsyncClient, admin: httpx2.AsyncClient
) -> None:
    created = await alice.post("/products/", json=CHAIR)
    path = f"/products/{created.json()['id']}"
    assert created.headers["etag"] == await etag_at(alice, path) == '"1"'
    for method, number in (("PATCH", 2), ("PUT", 3)):
        changed = await alice.request(method, path, json={"stock": number})
        assert changed.headers["etag"] == await etag_at(alice, path) == f'"{number}"'
    unchanged = await alice.patch(path, json={"stock": 3})
    assert unchanged.headers["etag"] == '"3"'
    for client, own in ((alice, ME), (admin, ALICE_BY_ADMIN)):
        before = await etag_at(client, own)
        changed = await client.patch(own, json={"full_name": f"New {own}"})
        assert changed.headers["etag"] == await etag_at(client, own) != before


async def test_known_state_is_not_sent_again(alice: httpx2.AsyncClient, product: str) -> None:
    for path in (product, ME):
        etag = await etag_at(alice, path)
        for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
            answer = await alice.get(path, headers={"If-None-Match": known})
            assert (answer.status_code, answer.content) == (304, b"")
            assert answer.headers["etag"] in (etag, known)
            assert "content-type" not in answer.headers
        for other in ('"other"', etag.strip('"'), '""', "", "W/*"):
            answer = await alice.get(path, headers={"If-None-Match": other})
            assert answer.status_code == 200, other


class Changes(NamedTuple):
    """What is sent to one row, by method: each changes it, and a deletion is the last."""

    client: httpx2.AsyncClient
    path: str
    bodies: dict[str, Any]


OF_USER = {"PATCH": {"full_name": "New Name"}, "PUT": {"full_name": "Newer Name"}}
BODIES: dict[str, dict[str, Any]] = {
    "a product": {"PATCH": {"name": "Stool"}, "PUT": {"name": "Shelf"}, "DELETE": None},
    "oneself": OF_USER,
    "a user": {"PATCH": {"full_name": "New Name"}, "DELETE": None},
}
# Those that state themselves, with a row of a superuser's.
RESOURCES = {f"a row of {resource.path}": resource for resource in resources()}


@pytest.mark.all_resources
def test_table_of_changes_is_complete() -> None:
    changes = [
        method
        for route in iter_route_contexts(app.routes)
        for method in (route.methods or ())
        if method in ("PUT", "PATCH", "DELETE")
    ]
    assert len(changes) == sum(map(len, BODIES.values())) + 3 * len(RESOURCES)


@pytest.fixture(params=[*BODIES, *RESOURCES])
async def changes(
    request: pytest.FixtureRequest, alice: httpx2.AsyncClient, admin: httpx2.AsyncClient
) -> Changes:
    if resource := RESOURCES.get(request.param):
        path = f"{resource.path}{(await resource.create(admin))['id']}"
        bodies = {
            "PATCH": await resource.change(admin),
            "PUT": await resource.body_for("PUT", admin),
            "DELETE": None,
        }
        return Changes(admin, path, bodies)
    bodies = BODIES[request.param]
    match request.param:
        case "a product":
            return Changes(alice, f"/products/{(await create(alice))['id']}", bodies)
        case "oneself":
            return Changes(alice, ME, bodies)
        case _:
            return Changes(admin, f"/users/{BOB.id}", bodies)


@pytest.mark.all_resources
async def test_change_of_another_state_is_refused(changes: Changes) -> None:
    client, path, bodies = changes
    for method, body in bodies.items():
        before = await client.get(path)
        etag = before.headers["etag"]
        for wrong in (
            '"99"',
            'W/"99"',
            etag.strip('"'),
            '"',
            "",
            "W/*",
            '*, "99"',
            f"{etag[:-1]}9-gzip",
            f'{etag[:-1]}-gzip-tar"',
            f'"-gzip{etag[1:]}',
            f'"{"-gzip" * 10_000}',
            f'{etag[:-1]}{"-gzip" * 10_000}x"',
        ):
            answer = await client.request(method, path, json=body, headers={"If-Match": wrong})
            refusal = (answer.status_code, answer.json()["code"])
            assert refusal == (412, "precondition_failed"), (method, wrong)
        assert (await client.get(path)).json() == before.json()
        right = {"If-Match": f'"99", {etag}'}
        answer = await client.request(method, path, json=body, headers=right)
        assert answer.status_code in (200, 204), method
        answer = await client.request(method, path, json=body, headers={"If-Match": etag})
        assert answer.status_code in (404, 412), method


@pytest.mark.all_resources
async def test_precondition_can_be_required(
    changes: Changes, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, path, bodies = changes
    change_state(app, monkeypatch, "options", is_if_match_required=True)
    for method, body in bodies.items():
        answer = await client.request(method, path, json=body)
        refusal = (answer.status_code, answer.json()["code"])
        assert refusal == (428, "precondition_required"), method
        if method != "DELETE":
            answer = await client.request(method, path, json=body, headers={"If-Match": "*"})
            assert answer.status_code == 200, method
        headers = {"If-Match": await etag_at(client, path)}
        answer = await client.request(method, path, json=body, headers=headers)
        assert answer.status_code in (200, 204), method


async def test_what_no_state_precedes_needs_no_precondition(
    alice: httpx2.AsyncClient, product: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_state(app, monkeypatch, "options", is_if_match_required=True)
    movement = {"delta": 1, "reason": "Delivery"}
    assert (await alice.post(f"{product}/stock-movements", json=movement)).status_code == 201
    assert (await alice.post(f"{product}/restore")).status_code == 200
    assert (await alice.post("/products/", json=CHAIR | {"sku": "B"})).status_code == 201


# What nginx, Apache and Caddy make of "1" when they compress; both, one behind the other; and what
# Apache makes of it when it unpacks, and packs again.
SPELLINGS = (
    *('W/"{}"', '"{}-gzip"', '"{}-br"', '"{}-zstd"', 'W/"{}-gzip"'),
    *('"{}-gzip-gunzip"', '"{}-gzip-gunzip-gzip"', 'W/"{}-gzip-gunzip-br"'),
)


@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_change_is_made_behind_a_proxy_that_compresses(
    alice: httpx2.AsyncClient, product: str, spelling: str
) -> None:
    """The tag that came through the proxy names the version until that changes, and no further."""
    for version in (1, 2):
        headers = {"If-Match": spelling.format(version)}
        answer = await alice.patch(product, json={"stock": version}, headers=headers)
        assert (answer.status_code, answer.headers["etag"]) == (200, f'"{version + 1}"')
        answer = await alice.patch(product, json={"stock": 99}, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (412, "precondition_failed")
    known = await alice.get(product, headers={"If-None-Match": spelling.format(3)})
    # As it was sent: a cache finds what it has stored by that tag.
    assert (known.status_code, known.headers["etag"]) == (304, spelling.format(3))
    assert known.headers["vary"]
    assert known.headers["cache-control"] == "no-store"


@pytest.mark.all_resources
async def test_change_unless_a_state_is_there(changes: Changes) -> None:
    client, path, bodies = changes
    for method, body in bodies.items():
        before = await client.get(path)
        etag = before.headers["etag"]
        for there in ("*", etag, f"W/{etag}", f'"99", {etag}'):
            for others in ({}, {"If-Match": etag}):
                headers = {"If-None-Match": there} | others
                answer = await client.request(method, path, json=body, headers=headers)
                refusal = (answer.status_code, answer.json()["code"])
                assert refusal == (412, "precondition_failed"), (method, headers)
        assert (await client.get(path)).json() == before.json()
        headers = {"If-None-Match": '"99"'}
        answer = await client.request(method, path, json=body, headers=headers)
        assert answer.status_code in (200, 204), method


async def test_read_of_another_state_is_refused(alice: httpx2.AsyncClient, product: str) -> None:
    for path in (product, ME):
        etag = await etag_at(alice, path)
        for same in ("*", etag, f'"99", {etag}'):
            assert (await alice.get(path, headers={"If-Match": same})).status_code == 200
            # If-Match first, then If-None-Match: RFC 9110 section 13.2.2.
            both = {"If-Match": same, "If-None-Match": etag}
            assert (await alice.get(path, headers=both)).status_code == 304
        for other in ('"99"', ""):
            both = {"If-Match": other, "If-None-Match": etag}
            for headers in ({"If-Match": other}, both):
                answer = await alice.get(path, headers=headers)
                assert (answer.status_code, answer.json()["code"]) == (412, "precondition_failed")


async def test_stranger_learns_no_state(bob: httpx2.AsyncClient, product: str) -> None:
    for etag in ('"1"', '"99"'):
        answer = await bob.patch(product, json={"name": "Mine"}, headers={"If-Match": etag})
        assert answer.status_code == 403
