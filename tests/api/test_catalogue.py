"""Products by category, tag and stock, and how many each category has."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import pytest
from sqlalchemy import select, text
from timberframe.data.session import Database
from timberframe.testing import BOB

from app.models import Product
from app.models.product import product_tags
from tests.factories.categories import create_category, create_chain, move_category
from tests.factories.products import create

CSV = {"Content-Type": "text/csv"}


@pytest.fixture
async def tree(admin: httpx2.AsyncClient) -> dict[str, dict[str, Any]]:
    rows = await create_chain(admin, "home", "furniture", "chairs")
    rows.append(await create_category(admin, slug="lamps", parent="home"))
    rows.append(await create_category(admin, slug="garden"))
    return {row["slug"]: row for row in rows}


async def skus(client: httpx2.AsyncClient, *params: tuple[str, Any], **more: Any) -> list[str]:
    answer = await client.get("/products/", params=httpx2.QueryParams([*params, *more.items()]))
    assert answer.status_code == 200, answer.text
    return [item["sku"] for item in answer.json()["items"]]


async def counts(client: httpx2.AsyncClient) -> dict[str, int]:
    """As the route says; each equal to the list that everybody gets."""
    items = (await client.get("/categories/counts")).json()["items"]
    found = {item["category"]: item["products"] for item in items}
    for category, number in found.items():
        page = (await client.get("/products/", params={"category": category})).json()
        assert page["total"] == number, category
    return found


async def upload(owner: httpx2.AsyncClient, file: str, **params: Any) -> dict[str, Any]:
    answer = await owner.post("/products/import", content=file, headers=CSV, params=params)
    report: dict[str, Any] = answer.json()
    return report


async def test_category_has_the_products_of_all_below_it(
    tree: Any, alice: httpx2.AsyncClient, client: httpx2.AsyncClient
) -> None:
    for sku, category in (("F", "furniture"), ("C", "chairs"), ("L", "lamps"), ("N", None)):
        assert (await create(alice, sku=sku, category=category))["category"] == category
    assert await skus(client, category="home") == ["F", "C", "L"]
    assert await skus(client, category="furniture") == ["F", "C"]
    assert await skus(client, category="chairs", sort="-price") == ["C"]
    assert await skus(client, category="garden") == await skus(client, category="nowhere") == []
    assert await skus(client, category="home", q="chair", sort="sku") == ["C", "F", "L"]
    answer = await client.get("/products/", params={"category": "x' OR 1=1"})
    assert answer.status_code == 422


async def test_unknown_category_is_refused(tree: Any, alice: httpx2.AsyncClient) -> None:
    product = await create(alice, category="lamps")
    body = {"sku": "B", "name": "B", "price": 1}
    path = f"/products/{product['id']}"
    for method, url, sent in (("POST", "/products/", body), ("PATCH", path, {}), ("PUT", path, {})):
        answer = await alice.request(method, url, json=sent | {"category": "nowhere"})
        assert (answer.status_code, answer.json()["code"]) == (422, "unknown_reference")
        assert [error["loc"] for error in answer.json()["errors"]] == [["body", "category"]]
    assert (await alice.get(path)).json() == product


async def test_tags_are_a_set_of_words(alice: httpx2.AsyncClient, database: Database) -> None:
    product = await create(alice, tags=["oak", "garden", "oak"])
    path = f"/products/{product['id']}"
    assert product["tags"] == ["garden", "oak"]
    etag = (await alice.get(path)).headers["etag"]
    answer = await alice.patch(path, json={"tags": ["oak", "garden"]})
    assert (answer.json()["tags"], answer.headers["etag"]) == (["garden", "oak"], etag)
    for wrong in ("oak", [1], [""], ["Oak"], ["a b"], ["a,b"], ["ä"], ["x" * 41], ["-a"], None):
        answer = await alice.patch(path, json={"tags": wrong})
        assert answer.status_code == 422, wrong
        assert answer.json()["errors"][0]["loc"][:2] == ["body", "tags"]
    too_many = [f"t-{n}" for n in range(21)]
    assert (await alice.patch(path, json={"tags": too_many})).status_code == 422
    assert (await alice.patch(path, json={"tags": too_many[:20]})).status_code == 200
    assert (await alice.patch(path, json={"tags": []})).json()["tags"] == []
    async with database.reading() as db:
        assert (await db.execute(select(product_tags))).all() == []


async def test_tag_is_asked_for_once_for_each_that_is_wanted(
    alice: httpx2.AsyncClient, client: httpx2.AsyncClient
) -> None:
    for sku, tags in (("A", ["oak", "garden"]), ("B", ["oak"]), ("C", [])):
        await create(alice, sku=sku, tags=tags)
    assert await skus(client, tag="oak") == ["A", "B"]
    assert await skus(client, ("tag", "oak"), ("tag", "garden")) == ["A"]
    assert await skus(client, ("tag", "oak"), ("tag", "steel")) == []
    assert await skus(client, ("tag", "oak"), ("tag", "oak")) == ["A", "B"]
    await alice.patch("/products/1", json={"tags": ["steel"]})
    assert await skus(client, tag="oak") == ["B"]
    assert await skus(client, tag="steel", q="chair") == ["A"]
    wrong_ones: list[Any] = [[("tag", "a,b")], [("tag", "")], [("tag", f"t{n}") for n in range(11)]]
    for wrong in wrong_ones:
        answer = await client.get("/products/", params=httpx2.QueryParams(wrong))
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["loc"][:2] == ["query", "tag"]
    twice = httpx2.QueryParams([("category", "a"), ("category", "b")])
    assert (await client.get("/products/", params=twice)).status_code == 422


async def test_pages_of_a_tag_and_a_category_go_on_by_cursor(
    tree: Any, alice: httpx2.AsyncClient, client: httpx2.AsyncClient
) -> None:
    for n in range(7):
        await create(alice, sku=f"S-{n}", category="chairs", tags=["oak"], price=n % 3)
    url, found = "/products/?limit=2&category=home&tag=oak&in_stock=false&sort=-price", []
    while url:
        answer = await client.get(url)
        found += [item["sku"] for item in answer.json()["items"]]
        link = answer.links.get("next")
        url = str(answer.url.join(link["url"])) if link else ""
    assert sorted(found) == [f"S-{n}" for n in range(7)]


async def test_stock_and_price_narrow_a_list(
    alice: httpx2.AsyncClient, client: httpx2.AsyncClient
) -> None:
    for sku, stock, price in (("A", 0, 5), ("B", 3, 10), ("C", 1, 20)):
        await create(alice, sku=sku, stock=stock, price=price)
    assert await skus(client, in_stock=True) == ["B", "C"]
    assert await skus(client, in_stock=False) == ["A"]
    assert await skus(client, in_stock=True, price__gte=5, price__lte=10) == ["B"]


async def test_counts_follow_every_change(
    tree: dict[str, dict[str, Any]],
    client: httpx2.AsyncClient,
    alice: httpx2.AsyncClient,
    bob: httpx2.AsyncClient,
    admin: httpx2.AsyncClient,
) -> None:
    nothing = dict.fromkeys(tree, 0)
    assert await counts(client) == nothing
    path = f"/products/{(await create(alice, category='chairs'))['id']}"
    one = nothing | {"chairs": 1, "furniture": 1, "home": 1}
    assert await counts(client) == one
    await alice.patch(path, json={"stock": 5, "name": "Stool"})
    assert await counts(client) == one
    await alice.patch(path, json={"is_active": False})
    assert await counts(client) == nothing
    await alice.patch(path, json={"is_active": True, "category": "lamps"})
    assert await counts(client) == nothing | {"lamps": 1, "home": 1}
    await move_category(admin, tree["lamps"], "garden")
    assert await counts(client) == nothing | {"lamps": 1, "garden": 1}
    await alice.delete(path)
    assert await counts(client) == nothing
    await alice.post(f"{path}/restore")
    assert await counts(client) == nothing | {"lamps": 1, "garden": 1}
    file = "sku,name,price,category\nI-1,A,1,chairs\nI-2,B,1,chairs\nI-3,C,1,"
    assert (await upload(bob, file))["created"] == 3
    assert (await upload(bob, file.replace("B,1,chairs", "B,1,garden")))["updated"] == 1
    expected = {"lamps": 1, "garden": 2, "chairs": 1, "furniture": 1, "home": 1}
    assert await counts(client) == expected
    assert (await upload(bob, "sku,name,price\nI-1,A,2"))["updated"] == 1
    await upload(bob, file, dry_run=True)
    assert await counts(client) == expected
    assert (await admin.delete(f"/users/{BOB.id}")).status_code == 204
    assert await counts(client) == nothing | {"lamps": 1, "garden": 1}


async def test_import_names_the_rows_of_unknown_categories(
    tree: Any, alice: httpx2.AsyncClient, bob: httpx2.AsyncClient
) -> None:
    await create(bob, sku="BOB")
    file = "sku,name,price,category\nA,A,1,lamps\nB,B,1,nowhere\nBOB,C,1,nowhere\nD,D,1,\n"
    refused = [
        {"line": 3, "field": "category", "reason": "no such Category"},
        {"line": 4, "field": "sku", "reason": "belongs to a row of somebody else"},
    ]
    for params in ({"dry_run": True}, {}):
        report = await upload(alice, file, **params)
        assert report["refused"] == 2
        assert report["errors"] == refused
        assert await skus(alice) == ["BOB"]
    report = await upload(alice, file, mode="skip")
    assert (report["created"], report["refused"], report["errors"]) == (2, 2, refused)
    assert await skus(alice) == ["BOB", "A", "D"]


async def test_category_and_tags_come_back_through_import(
    tree: Any, alice: httpx2.AsyncClient
) -> None:
    for sku, tags in (("A", ["garden", "oak"]), ("B", []), ("C", ["x"])):
        await create(alice, sku=sku, tags=tags, category="lamps" if tags else None)
    for file_format, media_type in (("csv", "text/csv"), ("jsonl", "application/jsonl")):
        params, headers = {"format": file_format}, {"Content-Type": media_type}
        exported = (await alice.get("/products/export", params=params)).content
        for product in (1, 2, 3):
            body = {"tags": ["other"], "category": "garden"}
            assert (await alice.patch(f"/products/{product}", json=body)).status_code == 200
        answer = await alice.post("/products/import", content=exported, headers=headers)
        assert answer.json()["updated"] == 3, file_format
        again = (await alice.get("/products/export", params=params)).content
        assert again == exported
    assert (await upload(alice, "sku,name,price\nA,A,1"))["updated"] == 1
    assert (await alice.get("/products/1")).json()["tags"] == ["garden", "oak"]


async def waits(database: Database, first: str, second: str) -> bool:
    """Whether the second of two writers waits for the first to end; they have different slots."""
    slot = text("SELECT pg_backend_pid() % 16")
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(database.transaction())
        other = one
        while await other.scalar(slot) == await one.scalar(slot):
            other = await stack.enter_async_context(database.transaction())
        await one.execute(text(first))
        writing = asyncio.ensure_future(other.execute(text(second)))
        done, _ = await asyncio.wait([writing], timeout=0.5)
        await one.rollback()
        await writing
        await other.rollback()
    return not done


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
async def test_writers_into_one_category_do_not_wait_for_each_other(
    tree: Any, alice: httpx2.AsyncClient, database: Database
) -> None:
    for sku in "AB":
        await create(alice, sku=sku)
    change = "UPDATE products SET category = 'lamps' WHERE sku = "
    assert not await waits(database, change + "'A'", change + "'B'")
    slot = "UPDATE category_counts SET products = products WHERE category = 'lamps'"
    await alice.patch("/products/1", json={"category": "lamps"})
    assert await waits(database, slot, slot)  # the control: one counter for all


async def test_stock_is_sold_without_a_look_at_the_counters(
    engine: str, tree: Any, alice: httpx2.AsyncClient, database: Database
) -> None:
    await create(alice, category="lamps", stock=3)
    async with database.transaction() as db:
        await db.execute(text("UPDATE category_counts SET products = 7"))
    if engine == "postgresql":
        async with database.reading() as db:
            row = await db.scalar(text("SELECT ctid::text FROM category_counts"))
    movement = {"delta": -1, "reason": "sale"}
    assert (await alice.post("/products/1/stock-movements", json=movement)).status_code == 201
    async with database.reading() as db:
        assert list(await db.scalars(text("SELECT products FROM category_counts"))) == [7]
        assert (await db.scalars(select(Product.stock))).one() == 2
        if engine == "postgresql":
            assert await db.scalar(text("SELECT ctid::text FROM category_counts")) == row
