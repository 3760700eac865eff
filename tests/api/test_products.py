"""Products over HTTP."""

import httpx2
from timberframe.testing.routes import EVERYBODY, OWNER, PAGE, SIGNED_IN, Resource, Route

from tests.factories.products import CHAIR, change_product, create, create_another, valid_product

PATH = "/products/"
ROW = f"{PATH}{{product_id}}"
FIELDS = frozenset({"sku", "name", "description", "price", "currency", "stock", "is_active"})
FIELDS |= {"category", "tags"}
SHOWN = FIELDS | {"id", "owner_id", "created_at", "updated_at"}
MOVEMENT = frozenset({"id", "product_id", "delta", "stock", "reason", "moved_by_id", "created_at"})
REPORT = frozenset({"mode", "dry_run", "created", "updated", "unchanged", "refused", "errors"})
REPORT |= {"errors_total"}

RESOURCE = Resource(
    PATH,
    "product_id",
    "public-read",
    create=create_another,
    valid=valid_product,
    change=change_product,
    takes=FIELDS,
    hiding={"is_active": False},
    further=(
        Route(
            "POST",
            f"{PATH}import",
            SIGNED_IN,
            sends={"content": "sku,name,price", "headers": {"Content-Type": "text/csv"}},
            shows=REPORT,
        ),
        Route("GET", f"{PATH}export", EVERYBODY),
        Route("GET", f"{PATH}events", EVERYBODY),
        Route("POST", f"{ROW}/restore", OWNER, shows=SHOWN),
        Route("GET", f"{ROW}/stock-movements", OWNER, shows=MOVEMENT | PAGE),
        Route(
            "POST",
            f"{ROW}/stock-movements",
            OWNER,
            201,
            json={"delta": 5, "reason": "Delivery"},
            shows=MOVEMENT,
        ),
    ),
)


async def test_created_product_belongs_to_its_creator(alice: httpx2.AsyncClient) -> None:
    answer = await alice.post("/products/", json=CHAIR)
    product = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/api/v1/products/{product['id']}"
    assert product == CHAIR | {
        "id": product["id"],
        "description": None,
        "currency": "EUR",
        "stock": 0,
        "is_active": True,
        "category": None,
        "tags": [],
        "owner_id": 1,
        "created_at": product["created_at"],
        "updated_at": product["created_at"],
    }


async def test_duplicate_sku_is_refused(alice: httpx2.AsyncClient, bob: httpx2.AsyncClient) -> None:
    await create(alice)
    answer = await bob.post("/products/", json=CHAIR)
    assert answer.status_code == 400
    assert answer.json()["detail"] == "Product with this sku already exists"


PRICES: dict[object, str] = {
    "0": "0.00",
    "5": "5.00",
    "0.1": "0.10",
    0.1: "0.10",
    -0.0: "0.00",
    7: "7.00",
    "9999999999.99": "9999999999.99",
    9999999999.99: "9999999999.99",
}


async def test_price_is_exact(alice: httpx2.AsyncClient) -> None:
    for sent, stored in PRICES.items():
        product = await create_another(alice, price=sent)
        assert product["price"] == stored, sent
        answer = await alice.get(f"/products/{product['id']}")
        assert answer.json() == product


BAD_TEXT = ("-1", "-0", "1.999", "1e3", "10000000000", "NaN", "", " 1", "١", "9" * 5000)
BAD_VALUES: tuple[object, ...] = (1e10, 1e308, 0.001, -0.01, True, None, [], {})


async def test_wrong_price_is_refused(alice: httpx2.AsyncClient) -> None:
    for price in (*BAD_TEXT, *BAD_VALUES):
        answer = await alice.post("/products/", json=CHAIR | {"price": price})
        assert answer.status_code == 422, price
        assert answer.json()["errors"][0]["loc"] == ["body", "price"], price
    assert (await alice.get("/products/")).json()["total"] == 0


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
