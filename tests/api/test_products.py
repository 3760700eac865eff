"""Products over HTTP."""

import httpx2
import pytest
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


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ("0", "0.00"),
        ("5", "5.00"),
        ("0.1", "0.10"),
        (0.1, "0.10"),
        (-0.0, "0.00"),
        (7, "7.00"),
        ("9999999999.99", "9999999999.99"),
        (9999999999.99, "9999999999.99"),
    ],
)
async def test_price_is_exact(alice: httpx2.AsyncClient, sent: object, stored: str) -> None:
    product = await create(alice, price=sent)
    assert product["price"] == stored
    answer = await alice.get(f"/products/{product['id']}")
    assert answer.json() == product


BAD_TEXT = ("-1", "-0", "1.999", "1e3", "10000000000", "NaN", "", " 1", "١", "9" * 5000)
BAD_VALUES: tuple[object, ...] = (1e10, 1e308, 0.001, -0.01, True, None, [], {})


@pytest.mark.parametrize("price", [*BAD_TEXT, *BAD_VALUES])
async def test_wrong_price_is_refused(alice: httpx2.AsyncClient, price: object) -> None:
    answer = await alice.post("/products/", json=CHAIR | {"price": price})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["loc"] == ["body", "price"]
    assert (await alice.get("/products/")).json()["total"] == 0
