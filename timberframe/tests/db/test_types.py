"""Types alike on both engines: exact, in order, and as JSON what Pydantic would make of them."""

import json
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel
from pydantic_core import to_json
from sqlalchemy import insert, select
from sqlalchemy.exc import StatementError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from timberframe.data.column_types import Document, FixedPoint
from timberframe.data.rows_as_json import RowJSON
from timberframe.data.session import Database


class Thing(DeclarativeBase):
    pass


class Specimen(Thing):
    __tablename__ = "specimens"

    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[Decimal | None] = mapped_column(FixedPoint)
    day: Mapped[date | None]
    token: Mapped[UUID | None]
    document: Mapped[Any] = mapped_column(Document, nullable=True)


class Shown(BaseModel):
    number: Decimal | None
    day: date | None
    token: UUID | None
    document: Any


NUMBERS: tuple[str, ...] = (
    "-999999999.999999",
    "-1.000000",
    "-0.500000",
    "-0.000001",
    "0.000000",
    "0.000001",
)
NUMBERS += ("0.100000", "10.000000", "999999999.999999")
DAYS = (date(2, 1, 1), date(999, 12, 31), date(2026, 11, 24), date(9998, 12, 31))
TOKENS = (
    UUID(int=0),
    UUID(int=1),
    UUID("8e03978e-40d5-43dd-bc93-6894a57f9324"),
    UUID(int=2**128 - 1),
)
DOCUMENTS: tuple[Any, ...] = (
    {},
    [],
    [None, True, False, 0, -1, 2**70, 0.1, 1e16, 1e-7, -0.0, 1.0],
    {"b": 1, "a": {'é\n\t"\\/\x00\x1f\u2028🎉': ["</script>", "'"]}},
    [[[[[[[["deep"]]]]]]]],
)


@pytest.fixture
async def specimens(database: Database) -> None:
    async with database.engine.begin() as connection:
        await connection.run_sync(Thing.metadata.create_all)


def rows() -> list[dict[str, Any]]:
    length = max(map(len, (NUMBERS, DAYS, TOKENS, DOCUMENTS)))
    return [{"number": None, "day": None, "token": None, "document": None}] + [
        {
            "number": Decimal(NUMBERS[n % len(NUMBERS)]),
            "day": DAYS[n % len(DAYS)],
            "token": TOKENS[n % len(TOKENS)],
            "document": DOCUMENTS[n % len(DOCUMENTS)],
        }
        for n in range(length)
    ]


async def test_value_is_read_as_it_was_written(database: Database, specimens: None) -> None:
    shown = RowJSON({name: getattr(Specimen, name) for name in Shown.model_fields})
    async with database.transaction() as db:
        await db.execute(insert(Specimen), rows())
    async with database.reading() as db:
        found = list(await db.scalars(select(Specimen).order_by(Specimen.id)))
        texts = list(await db.scalars(select(shown).order_by(Specimen.id)))
        columns: tuple[Any, ...] = (Specimen.number, Specimen.day, Specimen.token)
        for column in columns:
            values = list(
                await db.scalars(select(column).where(column.is_not(None)).order_by(column))
            )
            assert values == sorted(values)
            assert len(list(await db.scalars(select(column).where(column == values[0])))) > 0
    for row, text, expected in zip(found, texts, rows(), strict=True):
        assert {name: getattr(row, name) for name in expected} == expected
        assert text == to_json(Shown.model_validate(row, from_attributes=True)).decode()
        assert json.loads(text)["document"] == expected["document"]


async def test_absent_document_is_null_to_the_database(database: Database, specimens: None) -> None:
    async with database.transaction() as db:
        db.add(Specimen(document=None))
    async with database.reading() as db:
        assert await db.scalar(select(Specimen.id).where(Specimen.document.is_(None))) == 1


async def test_document_that_python_takes_for_the_same_is_a_change(
    database: Database, specimens: None
) -> None:
    for before, after in (([1], [True]), ([1], [1.0]), ({"a": 0}, {"a": False})):
        async with database.transaction() as db:
            db.add(specimen := Specimen(document=before))
            await db.flush()
            specimen.document = after
            await db.flush()
            await db.refresh(specimen)
            assert json.dumps(specimen.document) == json.dumps(after)


async def test_number_of_more_decimals_is_refused(database: Database, specimens: None) -> None:
    async with database.transaction() as db:
        with pytest.raises(StatementError, match="at most 6 decimals"):
            await db.execute(insert(Specimen), {"number": Decimal("0.0000001")})
        await db.rollback()
