"""ETag, If-Match and If-None-Match: RFC 9110 section 13."""

import httpx2
import pytest

from specimen.factories import CHAIR, create, create_another
from specimen.main import app
from timberframe.testing import ALICE, change_state

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


async def test_change_is_made_behind_a_proxy_that_compresses(alice: httpx2.AsyncClient) -> None:
    """The tag that came through the proxy names the version until that changes, and no further."""
    for spelling in SPELLINGS:
        product = f"/products/{(await create_another(alice))['id']}"
        for version in (1, 2):
            headers = {"If-Match": spelling.format(version)}
            answer = await alice.patch(product, json={"stock": version}, headers=headers)
            assert answer.status_code == 200, spelling
            assert answer.headers["etag"] == f'"{version + 1}"'
            answer = await alice.patch(product, json={"stock": 99}, headers=headers)
            assert answer.status_code == 412, spelling
            assert answer.json()["code"] == "precondition_failed"
        known = await alice.get(product, headers={"If-None-Match": spelling.format(3)})
        # As it was sent: a cache finds what it has stored by that tag.
        assert (known.status_code, known.headers["etag"]) == (304, spelling.format(3))
        assert known.headers["vary"]
        assert known.headers["cache-control"] == "no-store"


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
