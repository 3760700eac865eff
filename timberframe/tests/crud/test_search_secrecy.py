"""What a viewer may not read changes nothing of what they find: no hit, no order, no number."""

import random
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import pytest
from sqlalchemy import delete, insert

from specimen import models
from specimen.crud import CRUDProduct
from specimen.factories import add as add_products
from timberframe.crud.base import CRUDBase
from timberframe.crud.policy import (
    Policy,
    Principal,
    Rule,
    either,
    everybody,
    only,
    owner,
    superusers,
)
from timberframe.data.base import utc_now
from timberframe.data.session import Database
from timberframe.schemas.page import CommonQueryParams
from timberframe.search import postgresql as on_postgresql
from timberframe.search import query as search
from timberframe.search import vocabulary
from timberframe.testing import ADMIN, ALICE, BOB, Person

Crud = CRUDBase[models.Product, Any, Any]

RULES: dict[str, Rule] = {
    "everybody": everybody,
    "owner": owner(models.Product.owner_id),
    "active": only(models.Product.is_active),
    "active-or-own": either(only(models.Product.is_active), owner(models.Product.owner_id)),
    "superusers": superusers,
}
VIEWERS: dict[str, Principal | None] = {
    "anonymous": None,
    "bob": Principal(BOB.id, is_superuser=False),
    "admin": Principal(ADMIN.id, is_superuser=True),
}
READERS = (
    ("everybody", "anonymous"),
    ("owner", "bob"),
    ("active", "anonymous"),
    ("active-or-own", "bob"),
    ("superusers", "admin"),
)


class Kind(NamedTuple):
    """Of a row: what the rules depend on."""

    owner: Person
    is_active: bool = True
    is_deleted: bool = False


SHOWN = Kind(BOB)
KINDS = (
    Kind(ALICE),
    Kind(ALICE, is_active=False),
    Kind(ALICE, is_deleted=True),
    Kind(BOB, is_deleted=True),
)
PRIVATE_WORDS = (
    # Beginnings of what nobody may know, and a whole word that others only begin with.
    *("secretplan", "secret", "chai", "armc", "fold", "foldin"),
    # Better corrections of the typos below than the words that are shown.
    *("chiart", "chiarr", "kettel", "kettels", "blanktet", "blanktes"),
    # More than are completed, and more than are compared for a correction.
    *(f"chairy{a}{b}" for a in "abcdef" for b in "abcdefg"),
    *(f"{a}chiar{b}" for a in "abcdefghijklmno" for b in "abcdefghi"),
)
SHOWN_NAMES = ("oak chair", "armchair", "folding chair", "steel kettle", "blanket", "folding table")
QUERIES = (
    # Completion, of the last word and of others.
    *("secr", "secretplan", "chai", "chair", "foldin ch"),
    # Correction.
    *("chiar", "kettel", "blankte", "foldign chair", "secretplna"),
    # Neither.
    *("oak chair", "oak steel"),
)


def crud_of(rule: Rule) -> Crud:
    class CRUDOfRule(CRUDProduct):
        policy = Policy(read=rule, write=owner(models.Product.owner_id))

    return CRUDOfRule(models.Product)


def rows(names: Sequence[str], kind: Kind) -> list[dict[str, Any]]:
    return [
        {
            "sku": f"{kind.owner.name[0]}{int(kind.is_active)}{int(kind.is_deleted)}-{number}",
            "name": name,
            "description": name if number % 3 else None,
            "price": Decimal(number),
            "currency": "EUR",
            "owner_id": kind.owner.id,
            "is_active": kind.is_active,
            "deleted_at": utc_now() if kind.is_deleted else None,
        }
        for number, name in enumerate(names, start=1)
    ]


async def add(database: Database, names: Sequence[str], *kinds: Kind) -> None:
    await add_products(database, [row for kind in kinds for row in rows(names, kind)])


async def remove_hidden(database: Database) -> None:
    async with database.transaction() as db:
        shown = models.Product.owner_id == SHOWN.owner.id, models.Product.deleted_at.is_(None)
        await db.execute(delete(models.Product).where(~(shown[0] & shown[1])))


async def is_hidden(database: Database, crud: Crud, viewer: Principal | None, kind: Kind) -> bool:
    async with database.transaction() as db:
        [row] = rows(["anything"], kind)
        statement = insert(models.Product).values(row).returning(models.Product.id)
        row_id = (await db.scalars(statement)).one()
    is_hidden = await crud.read(database, row_id, viewer=viewer) is None
    async with database.transaction() as db:
        await db.execute(delete(models.Product).where(models.Product.id == row_id))
    return is_hidden


async def answers(
    database: Database, crud: Crud, viewer: Principal | None, queries: Sequence[str]
) -> dict[tuple[str, str | None], Any]:
    """All that a search tells: hits, their order and number, of pages and of an export."""
    found: dict[tuple[str, str | None], Any] = {}
    for number, q in enumerate(queries):
        for sort in (None, "-price")[: 1 + (number % 4 == 0)]:
            params = CommonQueryParams(q=q, sort=sort)
            page = await crud.get_multi(database, params=params, viewer=viewer)
            found[q, sort] = page.items, page.total, page.total_is
        if number % 3:
            continue
        async with database.snapshot() as db:
            params = CommonQueryParams(q=q)
            count = await crud.count(db, params=params, viewer=viewer)
            streamed = [
                row.id
                async for some in crud.stream(
                    db, columns=[models.Product.id], params=params, viewer=viewer
                )
                for row in some
            ]
        found[q, "export"] = count, streamed
    return found


async def test_hidden_rows_change_no_answer(database: Database) -> None:
    """All of these viewers may read the same rows: they get the same answers.

    Every query is sent under one rule, and one of each kind under the others.
    """
    await add(database, SHOWN_NAMES, SHOWN)
    before = await answers(database, crud_of(everybody), VIEWERS["anonymous"], QUERIES)
    for rule, viewer in READERS:
        crud, who = crud_of(RULES[rule]), VIEWERS[viewer]
        queries = QUERIES if rule == "active-or-own" else QUERIES[::5]
        hidden = [kind for kind in KINDS if await is_hidden(database, crud, who, kind)]
        assert hidden, "deleted rows are in no list"
        await add(database, PRIVATE_WORDS, *hidden)
        after = await answers(database, crud, who, queries)
        assert after == {each: before[each] for each in after}, rule
        await remove_hidden(database)


async def test_rows_that_may_be_read_change_answers(database: Database) -> None:
    """The control: to a superuser, the rows that an owner hides from others."""
    crud, admin = crud_of(RULES["owner"]), VIEWERS["admin"]
    await add(database, SHOWN_NAMES, SHOWN)
    before = await answers(database, crud, admin, QUERIES)
    await add(database, PRIVATE_WORDS, Kind(ALICE))
    after = await answers(database, crud, admin, QUERIES)
    changed = {q for q, kind in after if after[q, kind] != before[q, kind]}
    assert {"secr", "chai", "chair", "foldin ch", "kettel", "blankte", "secretplna"} <= changed


async def test_no_corpus_tells_of_hidden_rows(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Words that are much alike, and bounds that are soon reached."""
    monkeypatch.setattr(vocabulary, "MAX_COMPLETIONS", 3)
    monkeypatch.setattr(vocabulary, "_CANDIDATES_PER_QUERY", 4)
    monkeypatch.setattr(vocabulary, "_TERMS_PER_QUERY", 2)
    monkeypatch.setattr(search, "MAX_HITS", 10)
    monkeypatch.setattr(on_postgresql, "_SAMPLE_ROWS", 10)
    choose = random.Random(1)  # noqa: S311 - the same every time

    def word() -> str:
        return "".join(choose.choices("abc", k=choose.randint(2, 6)))

    def text(words: int) -> str:
        return " ".join(word() for _ in range(choose.randint(1, words)))

    crud, bob = crud_of(RULES["active-or-own"]), VIEWERS["bob"]
    await add(database, [text(2) for _ in range(30)], SHOWN)
    queries = [text(3) for _ in range(8)]
    before = await answers(database, crud, bob, queries)
    assert any(total for _, total, *_ in before.values())
    for number in (3, 60):
        names = [text(3) for _ in range(number)]
        await add(database, names, *(kind for kind in KINDS if kind != Kind(ALICE)))
        assert await answers(database, crud, bob, queries) == before
        await remove_hidden(database)
