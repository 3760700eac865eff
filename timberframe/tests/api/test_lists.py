"""Lists over HTTP: filters, orders, pages of any depth, totals, links."""

import asyncio
import base64
from collections.abc import AsyncIterator, Sequence
from decimal import Decimal
from typing import Any

import httpx2
import pytest
from sqlalchemy import Boolean, ColumnElement, delete, literal_column, select

from specimen.factories import add, row
from specimen.main import app
from specimen.models import Product
from timberframe.crud import reading
from timberframe.crud.filters import ColumnFilter
from timberframe.data import driver
from timberframe.data.base import utc_now
from timberframe.data.session import Database
from timberframe.http.resources import MAX_SORT_KEYS
from timberframe.search import query as search
from timberframe.security.keys import Keys
from timberframe.testing import ADMIN, ALICE, BOB, change_state


@pytest.fixture
async def rows(database: Database) -> list[Product]:
    """Sixty products, in the order of their ids."""
    hidden = row(99, is_active=False, owner_id=ALICE.id)
    await add(database, [*(row(number) for number in range(60)), hidden])
    async with database.reading() as db:
        return list(await db.scalars(select(Product).where(Product.is_active).order_by(Product.id)))


async def ids(client: httpx2.AsyncClient, **params: Any) -> list[int]:
    answer = await client.get("/products/", params=params)
    assert answer.status_code == 200, answer.text
    page = answer.json()
    assert page["total"] == len(page["items"])
    return [item["id"] for item in page["items"]]


FILTERS: dict[tuple[str, str], Any] = {
    ("sku", "S-1"): lambda p: p.sku == "S-1",
    ("sku", "s-1"): lambda p: False,
    ("sku__in", "S-1,S-2,nothing"): lambda p: p.sku in ("S-1", "S-2"),
    ("sku__prefix", "S-1"): lambda p: p.sku.startswith("S-1"),
    ("sku__prefix", "s-1"): lambda p: False,
    ("name", "Chair"): lambda p: p.name == "Chair",
    ("name__prefix", "a"): lambda p: p.name.startswith("a"),
    ("name__prefix", "a_"): lambda p: p.name == "a_b",
    ("name__prefix", "%"): lambda p: False,
    ("name__prefix", "É"): lambda p: p.name == "Émile",
    ("name__prefix", "100%"): lambda p: p.name == "100% wool",
    ("description__isnull", "true"): lambda p: p.description is None,
    ("description__isnull", "false"): lambda p: p.description is not None,
    ("price", "7"): lambda p: p.price == 7,
    ("price__gte", "7.00"): lambda p: p.price >= 7,
    ("price__gt", "7"): lambda p: p.price > 7,
    ("price__lte", "7"): lambda p: p.price <= 7,
    ("price__lt", "7.01"): lambda p: p.price <= 7,
    ("currency__in", "EUR,USD"): lambda p: p.currency in ("EUR", "USD"),
    ("stock", "0"): lambda p: p.stock == 0,
    ("stock__gte", str(2**63 - 1)): lambda p: False,
    ("stock__lt", str(2**63 - 1)): lambda p: True,
    ("is_active", "false"): lambda p: False,
    ("owner_id", "1"): lambda p: p.owner_id == 1,
    ("owner_id__in", "1,2"): lambda p: True,
    ("id__in", "1,3,999"): lambda p: p.id in (1, 3),
    ("updated_at__lte", "2000-01-01T00:00:00Z"): lambda p: False,
    ("updated_at__gt", "2000-01-01T00:00:00Z"): lambda p: True,
    ("created_at__lte", "2000-01-01T00:00:00Z"): lambda p: False,
    ("created_at__gt", "2000-01-01T00:00:00+14:00"): lambda p: True,
}


async def test_filter_gives_the_rows_it_names(
    client: httpx2.AsyncClient, rows: list[Product]
) -> None:
    for (name, value), belongs in FILTERS.items():
        expected = [product.id for product in rows if belongs(product)]
        assert await ids(client, **{name: value}) == expected, (name, value)


async def test_filters_narrow_each_other_and_the_policy_narrows_them(
    client: httpx2.AsyncClient, alice: httpx2.AsyncClient, rows: list[Product]
) -> None:
    params = {"price__gte": "3", "price__lt": "12", "currency": "EUR", "owner_id": "1"}
    expected = [p.id for p in rows if 3 <= p.price < 12 and (p.currency, p.owner_id) == ("EUR", 1)]
    assert await ids(client, **params) == expected != []
    assert await ids(client, is_active="false") == []
    assert len(await ids(alice, is_active="false")) == 1


MOMENT = "2026-11-24T12:00:00Z"
UNDECLARED = (
    *("color", "name__like", "price__in", "description", "owner", "deleted_at", "version"),
    *("id__gt", "__class__", "name__", "__in", "name__eq"),
)
WRONG_VALUES: dict[str, tuple[str, ...]] = {
    "price__gte": ("", "x", "-1", "1.001", "1e3", "NaN", "1,5"),
    "stock": ("", "x", "1.5", str(2**63), "NaN", "1;2"),
    "is_active": ("", "maybe", "2"),
    "owner_id__in": ("", "1,,2", "1,x", ",".join(["1"] * 101)),
    "currency__in": (",", "EUR,"),
    "description__isnull": ("null",),
    "created_at__gte": (
        *("yesterday", "2026-11-24", "2026-11-24T12:00:00", "1764000000", "0."),
        *("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", "2026-13-01T00:00:00Z"),
    ),
    "sort": (
        "",
        "color",
        "name,,price",
        "--name",
        "name desc",
        "NAME",
        "stock",
        "hashed_password",
        "-",
    ),
    "is_deleted": ("", "perhaps"),
    "total": ("", "all", "true", "10"),
}


async def test_what_is_not_declared_or_not_valid_is_refused_by_name(
    client: httpx2.AsyncClient,
) -> None:
    wrong = [(name, value) for name, values in WRONG_VALUES.items() for value in values]
    wrong += [(name, "1") for name in UNDECLARED]
    for name, value in wrong:
        answer = await client.get("/products/", params={name: value})
        assert answer.status_code == 422, (name, value)
        assert answer.json()["errors"][0]["loc"][:2] == ["query", name]


async def test_parameter_sent_twice_is_refused(client: httpx2.AsyncClient) -> None:
    for name in ("skip", "price", "sort", "q"):
        answer = await client.get(f"/products/?{name}=1&limit=5&{name}=1")
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["loc"] == ["query", name] or name == "sort"


async def test_any_of_many_is_sent_one_by_one_or_with_commas_or_both(
    client: httpx2.AsyncClient, rows: list[Product]
) -> None:
    expected = [product.id for product in rows if product.sku in ("S-1", "S-2", "S-3")]
    assert len(expected) == 3
    for query in (
        "=S-1,S-2,S-3",
        "=S-1&{}=S-2&{}=S-3",
        "=S-1,S-2&limit=9&{}=S-3",
        "=S-3&{}=S-2,S-1",
    ):
        answer = await client.get("/products/?sku__in" + query.replace("{}", "sku__in"))
        assert [item["id"] for item in answer.json()["items"]] == expected, query
    some = "&".join(f"owner_id__in={n},{n + 1}" for n in range(0, 100, 2))
    assert (await client.get(f"/products/?{some}")).status_code == 200
    answer = await client.get(f"/products/?{some}&owner_id__in=101")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["loc"] == ["query", "owner_id__in"]


async def test_too_many_of_many_are_one_error(client: httpx2.AsyncClient) -> None:
    """However wrong each of them is: an error for each would keep everybody waiting."""
    answer = await client.get(f"/products/?sku__in={',' * 30_000}")
    assert answer.status_code == 422
    [error] = answer.json()["errors"]
    assert error["loc"] == ["query", "sku__in"]
    assert error["type"] == "too_long"
    # The control: those that are not too many get an error each.
    answer = await client.get(f"/products/?sku__in={',' * 9}")
    assert len(answer.json()["errors"]) == 10


async def test_sort_keys_of_a_request_are_few(client: httpx2.AsyncClient) -> None:
    """Each combination of them is a statement, which is compiled and kept."""
    sort = "name,-price,created_at,updated_at,sku"
    assert sort.count(",") + 1 == MAX_SORT_KEYS
    for path in ("/products/", "/products/export"):
        # The control: that many may be sent.
        assert (await client.get(path, params={"sort": sort})).status_code == 200, path
        answer = await client.get(path, params={"sort": f"{sort},id"})
        assert answer.status_code == 422, path
        assert answer.json()["errors"][0]["loc"] == ["query", "sort"]


async def test_every_list_finds_rows_by_their_ids(
    admin: httpx2.AsyncClient, rows: list[Product]
) -> None:
    for path in ("/users/", "/products/"):
        answer = await admin.get(path, params={"id__in": ["3", "1"]})
        assert [item["id"] for item in answer.json()["items"]] == [1, 3]


ORDERS = (
    *("updated_at", "-updated_at"),
    *("id", "-id", "price", "-price", "name", "-created_at", "sku,-id"),
    *("-name,price", "price,-name,-id", "name,-price,name"),
)


def in_order(rows: list[Product], sort: str) -> list[int]:
    """Python's sort is stable: from the last key to the first."""
    last = sort.split(",")[-1]
    keys = [*sort.split(","), "-id" if last.startswith("-") else "id"]
    for key in reversed(keys if not sort.endswith("id") else keys[:-1]):
        name = key.removeprefix("-")
        rows = sorted(rows, key=lambda p: getattr(p, name), reverse=key.startswith("-"))
    return [product.id for product in rows]


async def walk(
    client: httpx2.AsyncClient, relation: str = "next", **params: Any
) -> AsyncIterator[dict[str, Any]]:
    """All pages, from link to link."""
    answer = await client.get("/products/", params=params)
    while True:
        assert answer.status_code == 200, answer.text
        yield answer.json()
        if relation not in answer.links:
            return
        answer = await client.get(str(answer.url.join(answer.links[relation]["url"])))


async def test_pages_of_every_order_are_complete(
    client: httpx2.AsyncClient, rows: list[Product]
) -> None:
    for sort in ORDERS:
        found: list[int] = []
        pages = [page async for page in walk(client, sort=sort, limit=7)]
        for number, page in enumerate(pages, start=1):
            total = 60 if number == 1 else None
            assert (page["page"], page["size"], page["total"]) == (number, 7, total), sort
            found += [item["id"] for item in page["items"]]
        assert found == in_order(rows, sort), sort
        assert pages[-1]["next_cursor"] is None
        assert await ids(client, sort=sort) == found


async def test_links_lead_back_the_way_they_came(
    client: httpx2.AsyncClient, rows: list[Product]
) -> None:
    for skip, least in ((56, 0), (50, 1), (3, 0)):
        params = {"sort": "-name,price", "limit": 7, "skip": skip, "price__gte": least}
        pages = [page async for page in walk(client, "prev", **params)]
        forward = in_order([p for p in rows if p.price >= least], "-name,price")
        found = [item["id"] for page in reversed(pages) for item in page["items"]]
        # The first of them may hold fewer rows than fit, but none is missing or there twice.
        assert found == forward[: skip + 7]
        assert pages[-1]["page"] == 1


async def test_link_keeps_the_other_parameters(
    client: httpx2.AsyncClient, rows: list[Product], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = await client.get("/products/", params={"name__prefix": "a", "limit": 2, "skip": 2})
    for relation in ("next", "prev"):
        url = httpx2.URL(answer.links[relation]["url"])
        assert dict(url.params) | {"cursor": ""} == {
            "name__prefix": "a",
            "limit": "2",
            "cursor": "",
        }
        assert (url.scheme, url.path) == ("", "/api/v1/products/")
        assert str(answer.url.join(url)) == f"http://testserver{url}"
    change_state(app, monkeypatch, "options", public_url="https://api.example.com")
    answer = await client.get("/products/", params={"limit": 2})
    link = answer.links["next"]["url"]
    assert link.startswith("https://api.example.com/api/v1/products/?limit=2&cursor=")
    lonely = await client.get("/products/", params={"sku": "S-1"})
    assert "link" not in lonely.headers


async def test_walk_gives_every_old_row_once_while_rows_come_and_go(
    client: httpx2.AsyncClient, rows: list[Product], database: Database
) -> None:
    old, pages = [p.id for p in rows], 0
    doomed = set(old[::5])
    found: list[int] = []
    async for page in walk(client, sort="-price,name", limit=5):
        found += [item["id"] for item in page["items"]]
        pages += 1
        new = range(1000 * pages, 1000 * pages + 9)
        await add(database, [row(number, price=Decimal(number % 20)) for number in new])
        async with database.transaction() as db:
            gone = sorted(doomed - set(found))[:2]
            await db.execute(delete(Product).where(Product.id.in_(gone)))
    assert len(found) == len(set(found))
    assert set(old) - doomed <= set(found)


async def test_walk_by_skip_misses_and_repeats_rows(
    client: httpx2.AsyncClient, rows: list[Product], database: Database
) -> None:
    """The control: what is wrong with OFFSET."""
    found: list[int] = []
    for skip in range(0, 60, 5):
        answer = await client.get("/products/", params={"skip": skip, "limit": 5, "sort": "-id"})
        found += [item["id"] for item in answer.json()["items"]]
        await add(database, [row(1000 + skip), row(1001 + skip)])
    assert len(found) > len(set(found))


async def cursor_of(client: httpx2.AsyncClient, **params: Any) -> str:
    answer = await client.get("/products/", params={"limit": 2} | params)
    return str(answer.json()["next_cursor"])


async def test_forged_cursor_is_refused(
    client: httpx2.AsyncClient, admin: httpx2.AsyncClient, rows: list[Product]
) -> None:
    good = await cursor_of(client, sort="name")
    of_users = (await admin.get("/users/", params={"limit": 1})).json()["next_cursor"]
    raw = base64.urlsafe_b64decode(good + "==")
    forged = [good[:at] + ("A" if good[at] != "A" else "B") + good[at + 1 :] for at in range(30)]
    forged += [base64.urlsafe_b64encode(raw[:16] + b'[2,false,"a",1]').decode(), good[:-1]]
    forged += [good + "A", good + good, "x", "=", "é", "0" * 4000, "' OR 1=1 --", of_users]
    for cursor in forged:
        answer = await client.get("/products/", params={"cursor": cursor, "sort": "name"})
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor"), cursor
    for other in ({"sort": "-name"}, {}, {"sort": "name", "q": "a"}, {"sort": "name,price"}):
        answer = await client.get("/products/", params={"cursor": good} | other)
        assert answer.status_code == 400, other
    answer = await client.get("/products/", params={"cursor": good, "sort": "name", "skip": 1})
    assert answer.status_code == 400
    answer = await client.get("/products/", params={"cursor": good, "sort": "name"})
    assert answer.status_code == 200


async def test_cursor_opens_no_door(
    client: httpx2.AsyncClient, alice: httpx2.AsyncClient, rows: list[Product]
) -> None:
    """It says where to go on, not what may be seen."""
    seen_by_alice = await cursor_of(alice, sort="-id", limit=1)
    answer = await client.get("/products/", params={"cursor": seen_by_alice, "sort": "-id"})
    assert [item["id"] for item in answer.json()["items"]] == [p.id for p in reversed(rows)]


async def test_cursor_dies_with_its_key(
    client: httpx2.AsyncClient, rows: list[Product], database: Database
) -> None:
    cursor = await cursor_of(client)
    database.keys = Keys("another key")
    assert (await client.get("/products/", params={"cursor": cursor})).status_code == 400


async def test_total_is_counted_as_far_as_is_cheap(
    client: httpx2.AsyncClient, rows: list[Product], monkeypatch: pytest.MonkeyPatch
) -> None:
    for bound, expected in ((60, (60, "exact")), (59, (59, "at_least")), (7, (7, "at_least"))):
        monkeypatch.setattr(reading, "MAX_COUNT", bound)
        page = (await client.get("/products/", params={"limit": 5})).json()
        assert (page["total"], page["total_is"]) == expected


async def test_total_is_counted_as_far_as_is_asked_for(
    client: httpx2.AsyncClient, rows: list[Product], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MAX_COUNT", 7)
    not_counted = (None, "not_counted")
    expected = {"none": not_counted, "bounded": (7, "at_least"), "exact": (60, "exact")}
    for params in ({}, {"skip": 50}, {"skip": 1000}, {"cursor": await cursor_of(client)}):
        for total, found in expected.items():
            page = (await client.get("/products/", params=params | {"total": total})).json()
            assert (page["total"], page["total_is"]) == found, params
        page = (await client.get("/products/", params=params)).json()
        found = not_counted if "cursor" in params else expected["bounded"]
        assert (page["total"], page["total_is"]) == found, params
    desks = len([product for product in rows if product.name.lower() == "desk"])
    first = (await client.get("/products/", params={"q": "desk", "limit": 1})).json()
    after: dict[str, Any] = {"q": "desk", "limit": 1, "cursor": first["next_cursor"]}
    assert (await client.get("/products/", params=after)).json()["total"] is None
    for total, count in (("none", None), ("bounded", desks), ("exact", desks)):
        page = (await client.get("/products/", params=after | {"total": total})).json()
        assert (page["total"], len(page["items"])) == (count, 1)


async def test_page_with_a_cursor_counts_nothing(
    client: httpx2.AsyncClient,
    rows: list[Product],
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the database: the statement that is sent has no count in it."""
    cursor = await cursor_of(client)
    sent: list[str] = []
    get = database._driver._queries.get

    def noting(*arguments: Any) -> Any:
        query = get(*arguments)
        sent.append(query.sql)
        return query

    monkeypatch.setattr(database._driver._queries, "get", noting)
    for params in ({"cursor": cursor}, {}):
        assert (await client.get("/products/", params=params)).status_code == 200
    assert ["count(" in sql for sql in sent] == [False, True]


async def test_hits_are_counted_beyond_the_last_page_too(
    client: httpx2.AsyncClient, rows: list[Product], monkeypatch: pytest.MonkeyPatch
) -> None:
    desks = len([product for product in rows if product.name.lower() == "desk"])
    for bound, expected in ((desks + 1, (desks, "exact")), (desks, (desks - 1, "at_least"))):
        monkeypatch.setattr(reading, "MAX_HITS", bound)
        monkeypatch.setattr(search, "MAX_HITS", bound)
        for skip in (0, 100):
            params: dict[str, Any] = {"q": "desk", "limit": 5, "skip": skip}
            page = (await client.get("/products/", params=params)).json()
            assert (page["total"], page["total_is"]) == expected
            assert bool(page["items"]) == (skip == 0)


async def test_order_of_texts_is_that_of_their_code_points(
    client: httpx2.AsyncClient, rows: list[Product]
) -> None:
    page = (await client.get("/products/", params={"sort": "name"})).json()
    names = [item["name"] for item in page["items"]]
    assert names == sorted(names)
    assert len(set(names)) > 5


async def test_lists_of_users_have_them_too(admin: httpx2.AsyncClient) -> None:
    for params, expected in (
        ({"sort": "-username"}, [BOB.id, ALICE.id, ADMIN.id]),
        ({"sort": "email", "email__in": f"{BOB.email},{ALICE.email}"}, [ALICE.id, BOB.id]),
        ({"is_superuser": "true"}, [ADMIN.id]),
        ({"username__prefix": "a"}, [ALICE.id, ADMIN.id]),
        ({"full_name__isnull": "false"}, []),
        ({"created_at__lt": utc_now().isoformat().replace("+00:00", "Z")}, [1, 2, 3]),
    ):
        page = (await admin.get("/users/", params=params)).json()
        assert [item["id"] for item in page["items"]] == expected, params


NO_TEXTS = ("q", "id__in", "owner_id__in", "is_active", "description__isnull")
ON_TEXTS = ("sku", "sku__in", "sku__prefix", "name", "name__prefix")
SQL = (
    *("'", '"', "`", ";", "--", "/*", "*/", "\\", "\\'", "%", "_", "%%", "%s", "%(a)s", ":a", "$1"),
    *("' OR '1'='1", "' OR 1=1 --", '" OR ""="', "') OR ('1'='1", "1 OR 1=1", "1) OR (1=1"),
    *("'; DROP TABLE users; --", "1; DELETE FROM products", "'; SELECT pg_sleep(9); --"),
    *("' UNION SELECT hashed_password FROM users --", "1 UNION SELECT 1,2,3", "' UNION ALL SELECT"),
    *("' AND 1=(SELECT COUNT(*) FROM users) --", "(SELECT 1)", "' AND randomblob(900000000) --"),
    *("name; DROP TABLE users", "name--", "name,(SELECT 1)", "name ASC", "price desc, name", "1,2"),
    *("CASE WHEN 1=1 THEN name END", "-name;--", "id)", "(id)", "rowid", "ctid", "products.name"),
    *("\u02bc OR 1=1", "\uff07 OR 1=1", "ʼ; DROP", "NULL", "null", "true", "0x27", "CHAR(39)"),
    *(
        "||'a",
        "'||'a'||'",
        "a' COLLATE NOCASE --",
        "[a-z]",
        "a*",
        "^a",
        "$$",
        "$tag$",
        "{}",
        "${1}",
    ),
    *("E'\\047'", "U&'\\0027'", "'::text", "'=''", "like '%'", "IS NOT NULL", "pg_catalog.x"),
)


async def test_sql_is_only_ever_a_value(
    alice: httpx2.AsyncClient,
    rows: list[Product],
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Sixty payloads: nothing breaks, nothing more is found, nothing changes.

    Parameters of one type are refused by the same code: of their payloads, each gets a quarter.
    """
    monkeypatch.setattr(driver, "SEARCH_WAIT_SECONDS", 60)  # sixty searches at once
    assert len(SQL) >= 60
    typed = dict.fromkeys(name for (name, _) in FILTERS if name not in (*ON_TEXTS, "currency__in"))
    payloads = {name: SQL[number % 4 :: 4] for number, name in enumerate(typed)}
    payloads |= dict.fromkeys(("cursor", "sort", "q", "currency__in"), SQL)
    before = await state(database)
    for name, some in payloads.items():
        for payload, answer in (await answers_to(alice, name, some)).items():
            assert answer.status_code in (200, 400, 422), (name, payload)
            if answer.status_code == 200 and name not in NO_TEXTS:
                found = [item["name"] for item in answer.json()["items"]]
                assert all(payload in value for value in found), (name, payload, found)
    assert await state(database) == before


async def answers_to(
    client: httpx2.AsyncClient, name: str, payloads: Sequence[str]
) -> dict[str, httpx2.Response]:
    requests = (client.get("/products/", params={name: payload}) for payload in payloads)
    return dict(zip(payloads, await asyncio.gather(*requests), strict=True))


@pytest.fixture
async def payload_rows(rows: list[Product], database: Database) -> list[Product]:
    """Those of `rows`, and one for each payload, which is its name and its number."""
    await add(database, [row(n, sku=text, name=text) for n, text in enumerate(SQL, start=100)])
    async with database.reading() as db:
        return list(await db.scalars(select(Product).where(Product.is_active).order_by(Product.id)))


async def wrong_answers(
    client: httpx2.AsyncClient, rows: list[Product], name: str, payloads: Sequence[str]
) -> dict[str, list[int] | int]:
    """By payload what was answered, where it is not what Python says; a status if not rows."""
    answers = await answers_to(client, name, payloads)
    found = {
        payload: [item["id"] for item in answer.json()["items"]]
        if answer.status_code == 200
        else answer.status_code
        for payload, answer in answers.items()
    }
    return {sent: seen for sent, seen in found.items() if seen != expected_of(rows, name, sent)}


def expected_of(rows: list[Product], name: str, payload: str) -> list[int] | int:
    field, _, operator = name.partition("__")
    choices = payload.split(",") if operator == "in" else [payload]
    if "" in choices:
        return 422
    values = {product.id: str(getattr(product, field)) for product in rows}
    if operator == "prefix":
        return [id_ for id_, value in values.items() if value.startswith(payload)]
    return [id_ for id_, value in values.items() if value in choices]


async def test_sql_in_a_text_finds_that_text_alone(
    client: httpx2.AsyncClient, payload_rows: list[Product], database: Database
) -> None:
    before = await state(database)
    for name in ON_TEXTS:
        assert await wrong_answers(client, payload_rows, name, SQL) == {}, name
    assert await state(database) == before


async def test_sql_that_is_no_value_is_found_out(
    client: httpx2.AsyncClient, payload_rows: list[Product], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: the same filters, made by formatting."""

    def condition(self: ColumnFilter, sent: Any) -> ColumnElement[bool]:
        choices = "', '".join(sent if isinstance(sent, list) else [sent])
        left = str(self.column.expression)
        if self.operator == "prefix":
            left = f"substr({left}, 1, {len(choices)})"
        return literal_column(f"({left} IN ('{choices}'))", Boolean)

    monkeypatch.setattr(ColumnFilter, "condition", condition)
    monkeypatch.setattr(ColumnFilter, "shape", lambda self, sent: (self.parameter, str(sent)))
    harmless, broken, all_rows = "$tag$", "'", "') OR ('1'='1"
    for name in ON_TEXTS:
        wrong = await wrong_answers(client, payload_rows, name, (harmless, broken, all_rows))
        assert wrong.pop(all_rows) == [product.id for product in payload_rows][:100], name
        assert wrong == {broken: 500}, name


async def state(database: Database) -> list[Any]:
    async with database.reading() as db:
        return list((await db.execute(select(Product.__table__).order_by(Product.id))).all())
