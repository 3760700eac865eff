"""What the database makes of rows is, byte for byte, what Pydantic would make of them."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, ClassVar

import httpx2
import pytest
from hypothesis import HealthCheck, given, strategies
from hypothesis import settings as hypothesis_settings
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    Dialect,
    Integer,
    MetaData,
    String,
    Table,
    Uuid,
    delete,
    insert,
    literal,
    select,
)
from sqlalchemy.types import TypeDecorator

from specimen import schemas
from specimen.crud import product_crud, stock_movement_crud, user_crud
from specimen.models import Product, StockMovement
from timberframe.crud.policy import Principal
from timberframe.crud.reading import ReadBase
from timberframe.data.column_types import BigInt, Document, FixedPoint, Money, UTCDateTime
from timberframe.data.rows_as_json import SEPARATOR, RowJSON
from timberframe.data.session import Database
from timberframe.http.resources import listed
from timberframe.schemas import Page
from timberframe.schemas.page import Pagination
from timberframe.testing import ADMIN, ALICE

VIEWER = Principal(ADMIN.id, is_superuser=True)
# All that schemas let through, odd ones often.
CHARACTERS = strategies.characters(exclude_categories=["Cs"], exclude_characters="\0")
ODD = strategies.sampled_from("\"\\/\b\f\n\r\t\x1f\x7f\x85\u2028\u2029<>&'%{}é🎉\U0010ffff")
TEXTS = strategies.text(CHARACTERS | ODD, min_size=1, max_size=30)
FIRST, LAST = datetime(1000, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
MOMENTS = strategies.builds(
    lambda microseconds: FIRST + microseconds * MICROSECOND,
    strategies.integers(0, (LAST - FIRST) // MICROSECOND)
    | strategies.sampled_from((0, 1, 10, 999_990)),
)
PRODUCTS = strategies.fixed_dictionaries(
    {
        "name": TEXTS,
        "description": strategies.none() | TEXTS,
        "price": strategies.integers(0, 999_999_999_999).map(lambda cents: Decimal(cents) / 100),
        "currency": strategies.sampled_from(["EUR", "JPY"]),
        "stock": strategies.integers(0, 2**31 - 1),
        "is_active": strategies.booleans(),
        "tags": strategies.lists(TEXTS, max_size=3, unique=True),
        "owner_id": strategies.just(ALICE.id),
        "created_at": MOMENTS,
        "updated_at": MOMENTS,
    }
)


async def expected(db: Database, crud: ReadBase[Any]) -> list[str]:
    async with db.reading() as session:
        rows = await session.scalars(select(crud.model).order_by(crud.model.id))
        return [crud.schema.model_validate(row).model_dump_json() for row in rows]


@hypothesis_settings(
    max_examples=30,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(products=strategies.lists(PRODUCTS, min_size=1, max_size=20))
async def test_products_are_equal(database: Database, products: list[dict[str, Any]]) -> None:
    async with database.transaction() as db:
        await db.execute(delete(Product))
        rows = [row | {"sku": f"S-{number}"} for number, row in enumerate(products)]
        ids = list(await db.scalars(insert(Product).returning(Product.id), rows))
    wanted = await expected(database, product_crud)
    page = await product_crud.get_multi(database, params=product_params(), viewer=VIEWER)
    assert page.items.split(SEPARATOR) == wanted
    for id_ in sorted(ids):
        stored = await product_crud.read(database, id_, viewer=VIEWER)
        assert stored is not None
        assert stored.content == wanted[sorted(ids).index(id_)]


def product_params() -> Pagination:
    return listed(product_crud).model()


async def test_users_and_movements_are_equal(database: Database) -> None:
    async with database.transaction() as db:
        product = Product(sku="S", name="N", price=Decimal(1), currency="EUR", owner_id=ALICE.id)
        db.add(product)
        await db.flush()
        movement = {"product_id": product.id, "stock": 1, "reason": 'a "b"\\\n'}
        rows = [movement | {"delta": n, "moved_by_id": (None, ALICE.id)[n % 2]} for n in (-1, 2)]
        await db.execute(insert(StockMovement), rows)
    for crud in (user_crud, stock_movement_crud):
        reader: ReadBase[Any] = crud
        params = listed(crud).model()
        page = await reader.get_multi(database, params=params, viewer=VIEWER)
        assert page.items.split(SEPARATOR) == await expected(database, reader) != []


async def test_object_may_have_many_fields(database: Database) -> None:
    fields = {f"field_{number}": (None, "é", number)[number % 3] for number in range(200)}
    row = RowJSON(
        {
            name: literal(value, Integer() if isinstance(value, int) else String())
            for name, value in fields.items()
        }
    )
    async with database.reading() as db:
        assert json.loads(await db.scalar(select(row)) or "") == fields


async def test_row_just_written_is_shown_as_it_is_read(database: Database) -> None:
    """SQLite's RETURNING has bugs of its own."""
    kinds = (Money, FixedPoint, UTCDateTime, Uuid, Boolean, Date, Document, String, BigInteger)
    nullable: list[Column[Any]] = [
        Column(f"field_{number}", kind) for number, kind in enumerate(kinds)
    ]
    table = Table(
        "things",
        MetaData(),
        Column("id", BigInt, primary_key=True),
        Column("name", String, nullable=False),
        *nullable,
    )
    row = RowJSON({column.name: column for column in table.columns})
    async with database.transaction() as db:
        await (await db.connection()).run_sync(table.create)
        written = await db.scalar(insert(table).values(name="A").returning(row))
        assert await db.scalar(select(row)) == written
        nulls = {column.name: None for column in nullable}
        assert json.loads(written or "") == {"id": 1, "name": "A"} | nulls


LISTS: dict[str, type[Page[Any]]] = {
    "/products/": schemas.ProductList,
    "/users/": schemas.UserList,
}


async def test_page_is_equal(admin: httpx2.AsyncClient) -> None:
    for path, schema in LISTS.items():
        for query in ("", "limit=1", "limit=1&skip=1", "created_at__lt=2000-01-01T00:00:00Z"):
            answer = await admin.get(f"{path}?{query}")
            page = schema.model_validate_json(answer.content)
            assert answer.text == page.model_dump_json() + "\n", (path, query)


class Grams(TypeDecorator[Decimal]):
    """A type as an owner may add it: kilograms with three places, stored in grams."""

    impl = BigInteger
    cache_ok = True
    python_type = Decimal
    json_spelling: ClassVar = {
        "postgresql": "({0} / 1000)::text || '.' || lpad(({0} % 1000)::text, 3, '0')",
        "sqlite": "printf('%d.%03d', {0} / 1000, {0} % 1000)",
    }

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> int | None:
        return None if value is None else int(value * 1000)


class Unspelt(TypeDecorator[Decimal]):
    impl = BigInteger
    cache_ok = True


async def test_type_of_ones_own_states_its_json(database: Database) -> None:
    table = Table("weighed", MetaData(), Column("id", BigInt), Column("weight", Grams))
    async with database.transaction() as db:
        await (await db.connection()).run_sync(table.create)
        await db.execute(insert(table), {"id": 1, "weight": Decimal("2.5")})
        shown = RowJSON({"id": table.c.id, "weight": table.c.weight})
        assert await db.scalar(select(shown)) == '{"id":1,"weight":"2.500"}'
        await db.rollback()


def test_type_that_states_none_is_refused_with_advice() -> None:
    with pytest.raises(TypeError, match="cannot show weight: json_spelling of Unspelt"):
        RowJSON({"weight": Column("weight", Unspelt)})
