"""Stock movements over HTTP."""

from typing import Any

import httpx2

from tests.factories.products import create as create_product
from tests.factories.products import create_another


async def move(owner: httpx2.AsyncClient, product: dict[str, Any], delta: int) -> httpx2.Response:
    path = f"/products/{product['id']}/stock-movements"
    return await owner.post(path, json={"delta": delta, "reason": "Sale"})


async def create(owner: httpx2.AsyncClient) -> dict[str, Any]:
    """A movement of a product of its own."""
    answer = await move(owner, await create_another(owner), 1)
    movement: dict[str, Any] = answer.json()
    return movement


async def test_movement_changes_stock_and_is_remembered(alice: httpx2.AsyncClient) -> None:
    product = await create_product(alice, stock=10)
    answer = await move(alice, product, -3)
    movement = answer.json()
    assert answer.status_code == 201
    assert movement == {
        "id": movement["id"],
        "product_id": product["id"],
        "delta": -3,
        "stock": 7,
        "reason": "Sale",
        "moved_by_id": 1,
        "created_at": movement["created_at"],
    }
    changed = await alice.get(f"/products/{product['id']}")
    assert changed.json()["stock"] == 7
    assert changed.headers["etag"] == '"2"'
    assert (await move(alice, product, 5)).json()["stock"] == 12
    history = (await alice.get(f"/products/{product['id']}/stock-movements?sort=-id")).json()
    assert [(row["delta"], row["stock"]) for row in history["items"]] == [(5, 12), (-3, 7)]
    assert history["total"] == 2


async def test_history_is_not_searched(alice: httpx2.AsyncClient) -> None:
    product = await create_product(alice)
    answer = await alice.get(f"/products/{product['id']}/stock-movements?q=sale")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["loc"] == ["query", "q"]


async def test_short_stock_is_refused_and_nothing_is_moved(alice: httpx2.AsyncClient) -> None:
    product = await create_product(alice, stock=2)
    for delta in (-3, 2**31 - 2):
        answer = await move(alice, product, delta)
        assert answer.status_code == 409
        assert answer.json()["detail"] == f"The stock of 2 cannot be changed by {delta}"
    assert (await alice.get(f"/products/{product['id']}")).json()["stock"] == 2
    assert (await alice.get(f"/products/{product['id']}/stock-movements")).json()["total"] == 0
    assert (await move(alice, product, -2)).json()["stock"] == 0


BAD: dict[str, tuple[object, ...]] = {
    "delta": (0, 1.5, "1", True, None, 2**31, -(2**31), 2**63, [], 1e300),
    "reason": ("", " ", "x" * 201, "a\x00b", None, 1),
}


async def test_wrong_movement_is_refused(alice: httpx2.AsyncClient) -> None:
    product = await create_product(alice, stock=5)
    for field, values in BAD.items():
        for value in values:
            body = {"delta": 1, "reason": "Sale"} | {field: value}
            answer = await alice.post(f"/products/{product['id']}/stock-movements", json=body)
            assert answer.status_code == 422, (field, value)
            assert answer.json()["errors"][0]["loc"] == ["body", field]
    assert (await alice.get(f"/products/{product['id']}")).json()["stock"] == 5


async def test_history_of_one_product_shows_no_other(
    alice: httpx2.AsyncClient, bob: httpx2.AsyncClient, admin: httpx2.AsyncClient
) -> None:
    mine, hers = (
        await create_product(bob, sku="B", stock=5),
        await create_product(alice, sku="A", stock=5),
    )
    await move(bob, mine, -1)
    await move(admin, hers, -2)
    for product, owner, delta in ((mine, bob, -1), (hers, alice, -2), (hers, admin, -2)):
        history = (await owner.get(f"/products/{product['id']}/stock-movements")).json()
        assert [row["delta"] for row in history["items"]] == [delta]
