"""Full-text search: the same hits in the same order on both engines, whatever was written how."""

import hashlib
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import ColumnExpressionArgument, Connection, delete, insert, select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from specimen import models
from specimen.crud import product_crud, user_crud
from timberframe.data.session import Database
from timberframe.search import index as search_index
from timberframe.search import postgresql as on_postgresql
from timberframe.search import query as search
from timberframe.search import vocabulary
from timberframe.testing import ALICE
from timberframe.testing.checks.migrations import OBJECTS
from timberframe.testing.routes import cruds

Row = tuple[str, str, str | None]

CORPUS: Sequence[Row] = (
    ("CH-100/b", "Oak chair", "A plain chair for the kitchen."),
    ("CH-200", "Armchair", "Leather, with a high back."),
    ("CH-300", "Folding steel chair", None),
    ("CH-301", "Folding stool", "Like a chair, without the back."),
    ("CHAIR-1", "Throne", "For kings."),
    ("TB-1", "Oak table", "Seats six; goes well with CH-100/b."),
    ("TB-2", "Steel table", "For the workshop."),
    ("TB_3", "Chairman's desk", "Walnut veneer."),
    ("LP.10", "Desk lamp", "Café style, 40 W."),
    ("LP.11", "Lampe de café", "Éclairage doux, crème brûlée."),
    ("LP.12", "Straßenlaterne", "Größe XL, für draußen."),
    ("LP.13", "Sørensen lampe", "Æbleskive, Łódź, þing, œuvre."),
    ("KT-1", "Copper kettle", "Holds 1.5 l; order number 77."),
    ("KT-77", "Steel kettle", "Whistles."),
    ("KT-770", "Tea kettle", "Does not whistle."),
    ("BL-1", "Blanket", "100% wool, 2 m² in all."),
    ("BL-2", "Cotton blanket", "See https://example.com/care?wash=30#top."),
    ("BG-1", "Bag", "Mail bags@example.com for more."),
    ("BG-2", "snake_case_bag", "Foo_bar, foo-baz, foo.qux."),
    ("CK-1", "Clock", "Tick tock tick tock."),
    ("CK-2", "Часы настенные", "Тихий ход, ёлочка."),
    ("CK-3", "Ρολόι τοίχου", "Αθόρυβο"),
    ("CK-4", "掛け時計", "静か。電池。"),
    ("CK-5", "ساعة حائط", "صامتة"),
    ("CK-6", "Wall ⏰ clock 🦊", "emoji 👨‍👩‍👧 family"),
    ("HD-1", "Hid\u200bden joi\u200dner", "bidi \u2067olleh\u2069 end"),
    ("HD-2", "E\u0301clair decomposed", "cafe\u0301 noir"),
    ("HD-3", "ﬁligree of ﬂowers", "ligatures"),
    ("LG-1", "x" * 200, "y" * 5000),
    ("OP-1", "NEAR misses", "AND OR NOT are words here."),
    ("OP-2", "Quote's \"double\" 'single'", "a* b:* c& d| !e (f) <-> g^2"),
    ("OP-3", "100%", "50_50 \\ backslash"),
    ("ZZ-1", "Bowl", "Hand-made, hand made, handmade."),
    ("ZZ-2", "bowl", "BOWL"),
    ("ZZ-3", "BÓWL", None),
    ("ZZ-4", "Shelf", "Bowls fit in."),
    ("ZZ-5", "Catalogue", "The catalogue of the catalogue."),
    ("ZZ-6", "Cat", "A cat is not a catalogue."),
    ("ZZ-7", "123", "12345"),
    ("ZZ-8", "-", "..."),
)

# In order: the first hit, the second …
EXPECTED: dict[str, Sequence[str]] = {
    # A better field before a worse one, a whole word before a beginning, then the oldest.
    "chair": ["CHAIR-1", "CH-100/b", "CH-300", "TB_3", "CH-301"],
    "bowl": ["ZZ-1", "ZZ-2", "ZZ-3", "ZZ-4"],
    "cat": ["ZZ-6", "ZZ-5"],
    "kettle": ["KT-1", "KT-77", "KT-770"],
    "77": ["KT-77", "KT-770", "KT-1"],
    "123": ["ZZ-7"],
    # Every word must be there, in any order and any field.
    "oak chair": ["CH-100/b"],
    "chair oak": ["CH-100/b"],
    "kitchen oak ch 100": ["CH-100/b"],
    "oak steel": [],
    "chair chair": ["CHAIR-1", "CH-100/b", "CH-300", "TB_3", "CH-301"],
    "steel nothing": [],
    # Case, accents and letters of more than one spelling.
    "CHAIR": ["CHAIR-1", "CH-100/b", "CH-300", "TB_3", "CH-301"],
    "cafe": ["LP.11", "LP.10", "HD-2"],
    "CAFÉ": ["LP.11", "LP.10", "HD-2"],
    "cafe\u0301": ["LP.11", "LP.10", "HD-2"],
    "eclair": ["HD-2", "LP.11"],
    "strassenlaterne": ["LP.12"],
    "STRAẞENLATERNE": ["LP.12"],
    "grosse": ["LP.12"],
    "sorensen aebleskive lodz thing oeuvre": ["LP.13"],
    "SØRENSEN ÆBLESKIVE ŁÓDŹ ÞING ŒUVRE": ["LP.13"],
    "filigree flowers": ["HD-3"],
    "ЧАСЫ": ["CK-2"],
    "тихии елочка": ["CK-2"],
    "ρολοι": ["CK-3"],
    "ΤΟΊΧΟΥ αθορυβο": ["CK-3"],
    "掛け": ["CK-4"],
    "電池": ["CK-4"],
    "ساعة": ["CK-5"],
    # Beginnings, of the last word or of one that is no whole word.
    "cha": ["CHAIR-1", "CH-100/b", "CH-300", "TB_3", "CH-301"],
    "cata": ["ZZ-5", "ZZ-6"],
    "fold st ch": ["CH-300", "CH-301"],
    "air": [],
    # Codes, addresses, numbers.
    "CH-100/b": ["CH-100/b", "TB-1"],
    "ch 100": ["CH-100/b", "TB-1"],
    "CH-3": ["CH-300", "CH-301"],
    "tb_3": ["TB_3"],
    "lp.1": ["LP.10", "LP.11", "LP.12", "LP.13"],
    "bags@example.com": ["BG-1"],
    "example.com/care": ["BL-2"],
    "foo_bar": ["BG-2"],
    "case": ["BG-2"],
    "m2": ["BL-1"],
    "1.5": ["KT-1", "OP-3"],
    # Typos: of a word that is in no row.
    "chiar": ["CHAIR-1", "CH-100/b", "CH-300", "CH-301"],
    "blankte": ["BL-1", "BL-2"],
    "foldign chair": ["CH-300", "CH-301"],
    "cataloque": ["ZZ-5", "ZZ-6"],
    "Armchiar": ["CH-200"],
    "kettel stell": ["KT-77"],
    "xylophone": [],
    # Oddities.
    "🦊": [],
    "wall 🦊 clock": ["CK-6"],
    "joi\u200dner": ["HD-1"],
    "\u2067olleh\u2069": ["HD-1"],
    "x" * 200: ["LG-1"],
    "x" * 64: ["LG-1"],
    "x" * 65: ["LG-1"],
    "y" * 30: ["LG-1"],
    "bo\x00wl": [],
    "bowl\x00": ["ZZ-1", "ZZ-2", "ZZ-3", "ZZ-4"],
    "bowl\ud800": ["ZZ-1", "ZZ-2", "ZZ-3", "ZZ-4"],
    "near": ["OP-1"],
    "not": ["KT-770", "OP-1", "ZZ-6"],
}

# Operators are words or nothing.
INERT: dict[str, Sequence[str]] = {
    # Of FTS5
    '"bowl': ["ZZ-1", "ZZ-2", "ZZ-3", "ZZ-4"],
    'bowl"': ["ZZ-1", "ZZ-2", "ZZ-3", "ZZ-4"],
    "bowl*": ["ZZ-1", "ZZ-2", "ZZ-3", "ZZ-4"],
    "^bowl": ["ZZ-1", "ZZ-2", "ZZ-3", "ZZ-4"],
    "(bowl": ["ZZ-1", "ZZ-2", "ZZ-3", "ZZ-4"],
    "bowl)": ["ZZ-1", "ZZ-2", "ZZ-3", "ZZ-4"],
    "+bowl": ["ZZ-1", "ZZ-2", "ZZ-3", "ZZ-4"],
    "-bowl": ["ZZ-1", "ZZ-2", "ZZ-3", "ZZ-4"],
    "words:bowl": [],
    "{words}:bowl": [],
    "shelf OR clock": [],
    "shelf NOT clock": [],
    "oak AND table": [],
    "NEAR(oak table)": [],
    "NEAR/3": [],
    "rank": [],
    # Of tsquery
    "oak & table": ["TB-1"],
    "oak | kettle": [],
    "!oak": ["CH-100/b", "TB-1"],
    "oak <-> table": ["TB-1"],
    "oak <2> chair": [],
    "bowl:*": ["ZZ-1", "ZZ-2", "ZZ-3", "ZZ-4"],
    "oak:A": ["CH-100/b"],
    "'oak' 'table'": ["TB-1"],
    "oak\\": ["CH-100/b", "TB-1"],
    "oak''table": ["TB-1"],
    # Of SQL, LIKE and formatting
    "'; DROP TABLE products; --": [],
    "' OR 1=1 --": ["OP-1"],
    "bowl' --": ["ZZ-1", "ZZ-2", "ZZ-3", "ZZ-4"],
    "%": [],
    "_": [],
    "100%": ["CH-100/b", "OP-3", "TB-1", "BL-1"],
    "b_wl": [],
    "%(q)s": ["OP-2", "BG-2"],
    ":q": ["OP-2", "BG-2"],
    "$10": ["LP.10", "CH-100/b", "OP-3", "TB-1", "BL-1"],
    "{0}": [],
    "?": [],
    # No word at all
    "": [],
    " \t\n": [],
    "...": [],
    "\x00": [],
    "\ud800": [],
    "\u200b": [],
}


def values(sku: str, name: str, description: str | None = None) -> dict[str, Any]:
    price = Decimal("1.00")
    owned = {"price": price, "currency": "EUR", "owner_id": ALICE.id}
    return {"sku": sku, "name": name, "description": description, **owned}


async def find(db: AsyncSession, q: str, *where: ColumnExpressionArgument[bool]) -> Sequence[str]:
    query = await product_crud.search.resolve(db, q)
    hits = query.hits(*where)
    products = select(models.Product.sku).join(hits, hits.c.id == models.Product.id)
    return (await db.scalars(products.order_by(hits.c.rank.desc(), models.Product.id))).all()


async def fill(database: Database, rows: Sequence[Row] = CORPUS) -> None:
    async with database.transaction() as db:
        await db.execute(insert(models.Product), [values(*row) for row in rows])


async def test_every_query_has_the_same_hits_in_the_same_order(database: Database) -> None:
    await fill(database)
    async with database.reading() as db:
        for expected in (EXPECTED, INERT):
            assert {q: list(await find(db, q)) for q in expected} == expected


async def test_users_are_found_by_any_of_their_names(database: Database) -> None:
    async with database.transaction() as db:
        row = {"email": "ada@example.com", "username": "countess", "hashed_password": "-"}
        await db.execute(insert(models.User).values(**row, full_name="Ada Lovelace"))
    queries = ("ada@example.com", "COUNT", "lovelace ada", "lovelcae")
    async with database.reading() as db:
        for q in queries:
            hits = (await user_crud.search.resolve(db, q)).hits()
            users = select(models.User.username).join(hits, hits.c.id == models.User.id)
            assert (await db.scalars(users)).all() == ["countess"], q


async def orm(db: AsyncSession) -> None:
    product = models.Product(**values("A", "first"))
    db.add(product)
    await db.flush()
    product.name = "second"
    await db.flush()


async def orm_delete(db: AsyncSession) -> None:
    product = models.Product(**values("A", "second"))
    db.add(product)
    await db.flush()
    await db.delete(product)


async def bulk(db: AsyncSession) -> None:
    await db.execute(insert(models.Product), [values("A", "first"), values("B", "other")])
    await db.execute(update(models.Product).values(name="second").where(models.Product.sku == "A"))


async def bulk_by_key(db: AsyncSession) -> None:
    ids = await db.scalars(
        insert(models.Product).returning(models.Product.id), [values("A", "first")]
    )
    rows = [{"id": key, "version": 1, "name": "second"} for key in ids]
    await db.execute(update(models.Product), rows)


async def bulk_delete(db: AsyncSession) -> None:
    await db.execute(insert(models.Product), [values("A", "second"), values("B", "second")])
    await db.execute(delete(models.Product))


async def upsert(db: AsyncSession) -> None:
    dialect = sqlite if db.get_bind().dialect.name == "sqlite" else postgresql
    for name in ("first", "second"):
        row = dialect.insert(models.Product).values(**values("A", name))
        await db.execute(
            row.on_conflict_do_update(
                index_elements=["sku"],
                index_where=models.Product.deleted_at.is_(None),
                set_={"name": row.excluded.name},
            )
        )


async def raw(db: AsyncSession) -> None:
    await db.execute(insert(models.Product).values(**values("A", "first")))
    await db.execute(text("UPDATE products SET name = 'second'"))


async def other_key(db: AsyncSession) -> None:
    await db.execute(insert(models.Product).values(**values("A", "second")))
    await db.execute(update(models.Product).values(id=models.Product.id + 1000))


async def owner_delete(db: AsyncSession) -> None:
    await db.execute(insert(models.Product).values(**values("A", "second")))
    await db.execute(delete(models.User).where(models.User.id == ALICE.id))


async def rolled_back(db: AsyncSession) -> None:
    await db.execute(insert(models.Product).values(**values("A", "second")))
    savepoint = await db.begin_nested()
    await db.execute(update(models.Product).values(name="first"))
    await savepoint.rollback()


WRITES = {
    orm: ["A"],
    orm_delete: [],
    bulk: ["A"],
    bulk_by_key: ["A"],
    bulk_delete: [],
    upsert: ["A"],
    raw: ["A"],
    other_key: ["A"],
    rolled_back: ["A"],
    owner_delete: [],  # the last, since it deletes whom the others need
}


async def test_no_write_goes_past_the_index(database: Database) -> None:
    for write, expected in WRITES.items():
        async with database.transaction() as db:
            await write(db)
        async with database.reading() as db:
            assert await find(db, "second") == expected, write
            assert await find(db, "first") == [], write
        async with database.transaction() as db:
            await db.execute(delete(models.Product))


@pytest.mark.parametrize("engine", ["sqlite"])
@pytest.mark.parametrize("key", ["id", "sku"])
async def test_replaced_row_leaves_nothing_behind(database: Database, key: str) -> None:
    """REPLACE runs no delete triggers: what it removed must not be found by the new row."""
    async with database.transaction() as db:
        row = {"id": 7, **values("A", "first")}
        await db.execute(insert(models.Product).values(**row))
        row |= {"id": 8} if key == "sku" else {"sku": "B"}
        await db.execute(
            insert(models.Product).prefix_with("OR REPLACE").values(**row | {"name": "second"})
        )
    async with database.reading() as db:
        assert len(await find(db, "second")) == 1
        assert await find(db, "first") == []


@pytest.mark.parametrize("engine", ["sqlite"])
async def test_stock_is_changed_without_indexing_again(database: Database) -> None:
    async with database.transaction() as db:
        await db.execute(insert(models.Product).values(**values("A", "first")))

    async def writes(**changed: Any) -> int:
        async with database.transaction() as db:
            before = await db.scalar(text("SELECT total_changes()")) or 0
            await db.execute(update(models.Product).values(**changed))
            return (await db.scalar(text("SELECT total_changes()")) or 0) - before

    assert await writes(stock=5, name="first") == 2  # the row, and its event
    assert await writes(name="second") > 2  # the control


async def test_hits_are_only_of_rows_that_meet_the_conditions(database: Database) -> None:
    await fill(database)
    async with database.transaction() as db:
        chair = update(models.Product).where(models.Product.sku == "CHAIR-1")
        await db.execute(chair.values(is_active=False))
    async with database.reading() as db:
        assert (await find(db, "chair"))[:2] == ["CHAIR-1", "CH-100/b"]
        assert (await find(db, "chair", models.Product.is_active))[:1] == ["CH-100/b"]
        assert await find(db, "chair", ~models.Product.is_active) == ["CHAIR-1"]


@pytest.mark.parametrize("places", [range(400), range(200, 600)], ids=["first", "later"])
async def test_hits_are_bounded_and_the_best(
    database: Database, monkeypatch: pytest.MonkeyPatch, places: range
) -> None:
    """`later`: where the first rows say that matches are few, and the index is asked instead."""
    monkeypatch.setattr(search, "MAX_HITS", 20)
    monkeypatch.setattr(on_postgresql, "_SAMPLE_ROWS", 40)
    rows = [
        (f"N{n}", "Bowl" if n % 40 == 39 else "Thing", "bowl" if n in places else None)
        for n in range(600)
    ]
    await fill(database, rows)
    async with database.reading() as db:
        found = await find(db, "bowl")
    named = [f"N{n}" for n in range(39, 600, 40)]
    assert found[:15] == named
    assert found[15:] == [f"N{n}" for n in places[:5]]


async def test_word_that_many_others_begin_with_is_completed(database: Database) -> None:
    """More words than are listed: the index itself knows what begins so."""
    count = 2 * vocabulary.MAX_COMPLETIONS
    await fill(database, [(f"N{n}", f"prefix{chr(97 + n % 26)}{n}", None) for n in range(count)])
    async with database.reading() as db:
        assert len(await find(db, "pre")) == count
        assert len(await find(db, "prefix")) == count


async def schema(database: Database, engine: str) -> set[str]:
    """All that stands in the database, whatever made it."""
    async with database.reading() as db:
        return set(await db.scalars(text(OBJECTS[engine])))


@pytest.mark.parametrize(
    ("dialect", "digest"),
    [
        ("sqlite", "03cb47dae9639e03ae393b1a51845568f8f45aba42e1d0d2171945d38e4913ec"),
        ("postgresql", "5263cf52521472cacc1108706a4c96250cc7740114184eff191f641468b1eeea"),
    ],
)
def test_what_migrations_call_never_changes(dialect: str, digest: str) -> None:
    """Databases have it already: a new way becomes a `create_v2`, for migrations to come."""
    statements: list[str] = []
    search_index.create_v1(statements.append, dialect, "notes", "title", "body")
    search_index.drop_v1(statements.append, dialect, "notes")
    assert hashlib.sha256("\n".join(statements).encode()).hexdigest() == digest


async def test_index_comes_to_filled_tables_and_goes_without_a_trace(
    database: Database, engine: str
) -> None:
    searched = {crud.search for crud in cruds() if crud.search}
    assert {product_crud.search, user_crud.search} <= searched

    def drop(connection: Connection) -> None:
        for each in searched:
            table = each.model.__tablename__
            search_index.drop_v1(connection.exec_driver_sql, engine, table)

    def create(connection: Connection) -> None:
        for each in searched:
            table, fields = each.model.__tablename__, (field.name for field in each.fields)
            search_index.create_v1(connection.exec_driver_sql, engine, table, *fields)

    made = await schema(database, engine)
    await database.engine.dispose()
    async with database.engine.begin() as connection:
        await connection.run_sync(drop)
    left = await schema(database, engine)
    assert not {name for name in left if "_search" in name}
    await fill(database)
    async with database.engine.begin() as connection:
        await connection.run_sync(create)
    assert await schema(database, engine) == made
    async with database.reading() as db:
        queries = ("chair", "chiar", "cata", "CH-100/b")
        assert {q: list(await find(db, q)) for q in queries} == {q: EXPECTED[q] for q in queries}
