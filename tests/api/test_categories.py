"""Categories over HTTP: a tree that everybody reads and superusers write."""

import asyncio
from typing import cast

import httpx2
import pytest
from sqlalchemy import select
from timberframe.crud.policy import Principal
from timberframe.data.query import Fetch
from timberframe.data.retries import TransactionConflict
from timberframe.data.session import Database
from timberframe.errors import InvalidInput
from timberframe.testing import ADMIN
from timberframe.testing.routes import PUBLIC, WRITES, Resource, Route
from timberframe.testing.values import WRONG_LINES

from app.crud.category import CRUDCategory, category_crud
from app.models import Category
from app.schemas import CategoryUpdate
from tests.factories.categories import (
    change_category,
    create_category,
    create_chain,
    move_category,
    valid_category,
)

PATH = "/categories/"
VIEWER = Principal(ADMIN.id, is_superuser=True)
WRONG_SLUGS: tuple[object, ...] = ("", " ", "A", "ä", "a_b", "-a", "a-", "a--b", "a\n", "x" * 65, 1)


RESOURCE = Resource(
    PATH,
    "category_id",
    "published",
    create=create_category,
    valid=valid_category,
    change=change_category,
    create_only=frozenset({"slug"}),
    further=(
        Route(
            "GET", "/categories/counts", PUBLIC, shows=frozenset({"items", "category", "products"})
        ),
    ),
)


async def test_created_category_is_read_and_listed(
    admin: httpx2.AsyncClient, client: httpx2.AsyncClient
) -> None:
    top = await create_category(admin, slug="furniture")
    body = {"slug": "chairs", "name": "Chairs", "parent": "furniture"}
    answer = await admin.post(PATH, json=body)
    row = answer.json()
    assert answer.headers["location"] == f"/api/v1{PATH}{row['id']}"
    assert row == {
        "id": row["id"],
        "slug": "chairs",
        "name": "Chairs",
        "parent": "furniture",
        "created_at": row["created_at"],
        "updated_at": row["created_at"],
    }
    assert (await client.get(f"{PATH}{row['id']}")).json() == row
    assert (await client.get(PATH, params={"sort": "-slug"})).json()["items"] == [top, row]
    assert (await client.get(PATH, params={"parent": "furniture"})).json()["items"] == [row]
    assert (await client.get(PATH, params={"parent__isnull": True})).json()["items"] == [top]


async def test_others_read_and_write_nothing(
    client: httpx2.AsyncClient, alice: httpx2.AsyncClient, admin: httpx2.AsyncClient
) -> None:
    row, body = await create_category(admin), await valid_category(admin)
    for caller, status in ((client, 401), (alice, 403)):
        assert (await caller.post(PATH, json=body)).status_code == status
        for method in WRITES:
            answer = await caller.request(method, f"{PATH}{row['id']}", json={"name": "Mine"})
            assert answer.status_code == status, method
    assert (await client.get(PATH)).json()["items"] == [row]


async def test_slug_is_for_good_and_taken_once(admin: httpx2.AsyncClient) -> None:
    row = await create_category(admin, slug="chairs")
    for method in ("PUT", "PATCH"):
        answer = await admin.request(method, f"{PATH}{row['id']}", json={"slug": "seats"})
        assert answer.status_code == 422
        assert [error["loc"] for error in answer.json()["errors"]] == [["body", "slug"]]
    answer = await admin.post(PATH, json={"slug": "chairs", "name": "Others"})
    assert answer.status_code == 400
    assert answer.json()["detail"] == "Category with this slug already exists"


async def test_wrong_value_is_refused(admin: httpx2.AsyncClient) -> None:
    row, body = await create_category(admin), await valid_category(admin)
    wrong = {"slug": (*WRONG_SLUGS, None), "name": (*WRONG_LINES, None), "parent": WRONG_SLUGS}
    for field, values in wrong.items():
        for value in values:
            answer = await admin.post(PATH, json=body | {field: value})
            assert answer.status_code == 422, (field, value)
            assert answer.json()["errors"][0]["loc"] == ["body", field]
    assert (await admin.get(PATH)).json()["items"] == [row]


async def test_unknown_parent_is_refused(admin: httpx2.AsyncClient) -> None:
    row, body = await create_category(admin), await valid_category(admin)
    for method, path, sent in (("POST", PATH, body), ("PATCH", f"{PATH}{row['id']}", {})):
        answer = await admin.request(method, path, json=sent | {"parent": "nowhere"})
        assert (answer.status_code, answer.json()["code"]) == (422, "unknown_reference")
        assert [error["loc"] for error in answer.json()["errors"]] == [["body", "parent"]]


async def test_category_is_moved_with_all_below_it_but_never_below_itself(
    admin: httpx2.AsyncClient,
) -> None:
    top, middle, low = await create_chain(admin, "top", "middle", "low")
    other = await create_category(admin, slug="other")
    for row, parent in ((top, "top"), (top, "middle"), (top, "low"), (middle, "low")):
        answer = await move_category(admin, row, parent)
        assert answer.status_code == 422, parent
        assert answer.json()["errors"][0]["msg"] == "must not be the category or below it"
    assert (await move_category(admin, middle, "other")).json()["parent"] == "other"
    assert (await move_category(admin, top, "low")).json()["parent"] == "low"
    assert (await move_category(admin, other, "top")).status_code == 422
    assert (await move_category(admin, low, None)).json()["parent"] is None


async def test_tree_has_ten_levels_at_most(admin: httpx2.AsyncClient) -> None:
    *_, last = await create_chain(admin, *(f"level-{n}" for n in range(10)))
    answer = await admin.post(PATH, json=await valid_category(admin) | {"parent": last["slug"]})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["loc"] == ["body", "parent"]
    first, _ = await create_chain(admin, "first", "second")
    assert (await move_category(admin, first, "level-8")).status_code == 422
    assert (await move_category(admin, first, "level-7")).status_code == 200


async def test_category_in_use_stays(admin: httpx2.AsyncClient, alice: httpx2.AsyncClient) -> None:
    top, low = await create_chain(admin, "top", "low")
    product = {"sku": "P", "name": "Chair", "price": 1, "category": "low"}
    assert (await alice.post("/products/", json=product)).status_code == 201
    for row in (top, low):
        answer = await admin.delete(f"{PATH}{row['id']}")
        assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    await alice.patch("/products/1", json={"category": None})
    for row in (low, top):
        assert (await admin.delete(f"{PATH}{row['id']}")).status_code == 204
        assert (await admin.get(f"{PATH}{row['id']}")).status_code == 404


class Unlocked(CRUDCategory):
    """The control: it walks up as the other does, and locks nothing on the way."""

    def __init__(self, walkers: int) -> None:
        super().__init__(Category)
        self.looked = asyncio.Barrier(walkers)

    async def _parent_of(self, fetch: Fetch, slug: str) -> str | None:
        row = select(Category.parent).where(Category.slug == slug)
        ((parent,),) = await fetch("category above, unlocked", lambda: row, {})
        await self.looked.wait()
        return cast(str | None, parent)


async def move_below(database: Database, crud: CRUDCategory, key: int, parent: str) -> str | None:
    """In a transaction of its own; what refused it."""
    try:
        async with database.transaction() as db:
            category = await crud.get_writable(db, key, viewer=VIEWER)
            assert category
            obj_in = CategoryUpdate(parent=parent)
            await crud.update(db, db_obj=category, obj_in=obj_in, viewer=VIEWER)
    except (InvalidInput, TransactionConflict) as refused:
        return type(refused).__name__
    return None


@pytest.fixture
async def two(admin: httpx2.AsyncClient) -> None:
    assert [(await create_category(admin, slug=slug))["id"] for slug in "ab"] == [1, 2]


async def parents(admin: httpx2.AsyncClient) -> list[str | None]:
    return [item["parent"] for item in (await admin.get(PATH)).json()["items"]]


async def test_two_moves_at_once_make_no_cycle(
    two: None, admin: httpx2.AsyncClient, database: Database
) -> None:
    for _ in range(5):
        refused = await asyncio.gather(
            move_below(database, category_crud, 1, "b"),
            move_below(database, category_crud, 2, "a"),
        )
        # PostgreSQL ends one of two that wait for each other; a request would be run again.
        assert sorted(filter(None, refused)) in (["InvalidInput"], ["TransactionConflict"])
        assert None in await parents(admin)
        for key in (1, 2):
            await move_category(admin, {"id": key}, None)


async def test_control_without_locks_only_one_after_the_other_makes_no_cycle(
    engine: str, two: None, admin: httpx2.AsyncClient, database: Database
) -> None:
    alone = Unlocked(walkers=1)
    assert await move_below(database, alone, 1, "b") is None
    assert await move_below(database, alone, 2, "a") == "InvalidInput"
    await move_category(admin, {"id": 1}, None)
    if engine == "sqlite":
        return  # its writers come one after the other anyway
    both = Unlocked(walkers=2)
    moves = (move_below(database, both, 1, "b"), move_below(database, both, 2, "a"))
    assert list(await asyncio.gather(*moves)) == [None, None]
    assert await parents(admin) == ["b", "a"]
