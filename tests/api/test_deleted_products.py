"""Deleted products are gone for all, and can be brought back."""

import httpx2

from tests.factories.products import CHAIR, create


async def test_deleted_product_is_gone_for_all(
    alice: httpx2.AsyncClient, admin: httpx2.AsyncClient, client: httpx2.AsyncClient
) -> None:
    product, other = await create(alice), await create(alice, sku="B")
    path = f"/products/{product['id']}"
    assert (await alice.delete(path)).status_code == 204
    for someone in (alice, admin, client):
        assert (await someone.get(path)).status_code == 404
        page = (await someone.get("/products/")).json()
        assert ([row["id"] for row in page["items"]], page["total"]) == ([other["id"]], 1)
    for method, below in (("PATCH", ""), ("DELETE", ""), ("GET", "/stock-movements")):
        assert (await alice.request(method, path + below)).status_code == 404
    answer = await alice.post(f"{path}/stock-movements", json={"delta": 1, "reason": "Delivery"})
    assert answer.status_code == 404


async def test_deleted_product_is_restored_as_it_was(
    alice: httpx2.AsyncClient, admin: httpx2.AsyncClient
) -> None:
    for restorer in (alice, admin):
        product = await create(alice, sku=f"S-{id(restorer)}", stock=5)
        path = f"/products/{product['id']}"
        await alice.delete(path)
        for _ in range(2):  # also when it is there already
            answer = await restorer.post(f"{path}/restore")
            assert answer.status_code == 200
        restored = answer.json()
        assert restored == product | {"updated_at": restored["updated_at"]}
        assert (await alice.get(path)).json() == restored


async def test_deleted_products_are_listed_for_who_may_restore_them(
    alice: httpx2.AsyncClient,
    bob: httpx2.AsyncClient,
    admin: httpx2.AsyncClient,
    client: httpx2.AsyncClient,
) -> None:
    product = await create(alice)
    await create(alice, sku="B")
    await alice.delete(f"/products/{product['id']}")
    for viewer, expected in ((alice, [product["id"]]), (admin, [product["id"]])):
        page = (await viewer.get("/products/?is_deleted=true")).json()
        assert ([row["id"] for row in page["items"]], page["total"]) == (expected, 1)
    for viewer in (bob, client):
        assert (await viewer.get("/products/?is_deleted=true")).json()["items"] == []


async def test_stranger_learns_nothing_of_a_deleted_product(
    alice: httpx2.AsyncClient, bob: httpx2.AsyncClient
) -> None:
    product = await create(alice)
    await alice.delete(f"/products/{product['id']}")
    answers = [await bob.post(f"/products/{key}/restore") for key in (product["id"], 10**6)]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert answers[0].json()["detail"] == answers[1].json()["detail"]


async def test_sku_of_a_deleted_product_is_free(
    alice: httpx2.AsyncClient, bob: httpx2.AsyncClient
) -> None:
    product = await create(alice)
    await alice.delete(f"/products/{product['id']}")
    successor = await create(bob)
    answer = await alice.post(f"/products/{product['id']}/restore")
    assert answer.status_code == 400
    assert answer.json()["detail"] == "Product with this sku already exists"
    await bob.delete(f"/products/{successor['id']}")
    assert (await alice.post(f"/products/{product['id']}/restore")).status_code == 200
    assert (await bob.post("/products/", json=CHAIR)).status_code == 400
