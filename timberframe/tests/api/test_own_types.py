"""Column types of one's own: they say all that the frame needs, which knows none of them."""

from collections.abc import AsyncIterator
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, ClassVar

import httpx2
import pytest
from fastapi import APIRouter, Depends, FastAPI
from pydantic import MISSING, BeforeValidator, Field, WithJsonSchema
from sqlalchemy import BigInteger, Dialect, SmallInteger
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from specimen.config import settings
from specimen.crud import user_crud
from specimen.endpoints import router as specimen_router
from timberframe.app import create_app
from timberframe.crud import EQUALITY, RANGE, CRUDBase, Policy, everybody
from timberframe.data.base import Base as AppBase
from timberframe.data.base import Versioned
from timberframe.data.session import Database
from timberframe.errors import WrongDeclaration
from timberframe.models import Identified, UTCDateTime
from timberframe.results import Created, Slice, Stored
from timberframe.routes import (
    CurrentUser,
    DbRead,
    DbSession,
    DbWrite,
    Download,
    LineRoute,
    Router,
    export_of,
    import_of,
    listed,
    readable,
    writable,
)
from timberframe.schemas import InputModel, OutputModel, Pagination
from timberframe.schemas.bulk import ImportReport
from timberframe.schemas.fields import Moment
from timberframe.testing import ALICE, lifespan


class Urgency(Enum):
    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"


URGENCIES = list(Urgency)


class UrgencyType(TypeDecorator[Urgency]):
    """Stored as its rank, so that rows sort by it."""

    impl = SmallInteger
    cache_ok = True
    python_type = Urgency
    filter_type = Urgency
    json_spelling: ClassVar = dict.fromkeys(
        ("postgresql", "sqlite"), "CASE {0} WHEN 0 THEN 'low' WHEN 1 THEN 'normal' ELSE 'high' END"
    )

    def process_bind_param(self, value: Urgency | None, dialect: Dialect) -> int | None:
        return None if value is None else URGENCIES.index(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> Urgency | None:
        return None if value is None else URGENCIES[value]


def parse_weight(value: object) -> Decimal:
    weight = Decimal(str(value)).quantize(Decimal("0.001"))
    if abs(weight) > 1000:
        raise ValueError("must be less than a ton")
    return weight


Weight = Annotated[Decimal, BeforeValidator(parse_weight), WithJsonSchema({"type": "string"})]


class Grams(TypeDecorator[Decimal]):
    """Kilograms with three places, stored in grams."""

    impl = BigInteger
    cache_ok = True
    python_type = Decimal
    filter_type = Weight
    json_spelling: ClassVar = {
        "postgresql": (
            "CASE WHEN {0} < 0 THEN '-' ELSE '' END"
            " || (abs({0}) / 1000)::text || '.' || lpad((abs({0}) % 1000)::text, 3, '0')"
        ),
        "sqlite": (
            "printf('%s%d.%03d', CASE WHEN {0} < 0 THEN '-' ELSE '' END,"
            " abs({0}) / 1000, abs({0}) % 1000)"
        ),
    }

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> int | None:
        return None if value is None else int(value * 1000)

    def process_result_value(self, value: int | None, dialect: Dialect) -> Decimal | None:
        return None if value is None else Decimal(value).scaleb(-3)


class Base(DeclarativeBase):
    """Its table is not in the project's schema."""

    metadata = type(AppBase.metadata)(naming_convention=AppBase.metadata.naming_convention)
    type_annotation_map: ClassVar = AppBase.type_annotation_map


class Parcel(Identified, Versioned, Base):
    __tablename__ = "parcels"

    number: Mapped[str] = mapped_column(unique=True)
    urgency: Mapped[Urgency] = mapped_column(UrgencyType)
    weight: Mapped[Decimal] = mapped_column(Grams)
    due_at: Mapped[datetime | None] = mapped_column(UTCDateTime)


class ParcelIn(InputModel):
    number: str
    urgency: Annotated[Urgency, Field(strict=False)]
    weight: Weight
    due_at: Moment | None = None


class ParcelChange(InputModel):
    urgency: Annotated[Urgency, Field(strict=False)] | MISSING = MISSING
    weight: Weight | MISSING = MISSING


class ParcelOut(OutputModel):
    id: int
    number: str
    urgency: Urgency
    weight: Decimal
    due_at: datetime | None


class CRUDParcel(CRUDBase[Any, ParcelIn, ParcelChange]):
    policy = Policy(read=everybody, write=everybody)
    schema = ParcelOut
    filters: ClassVar = {Parcel.urgency: ("in", *RANGE), Parcel.weight: RANGE}
    sorted_by = (Parcel.urgency, Parcel.weight)
    natural_key = "number"


parcel_crud = CRUDParcel(Parcel)
router = Router()
files = APIRouter(route_class=LineRoute)


@router.get("/")
async def read_parcels(
    db: DbRead, params: Annotated[Pagination, Depends(listed(parcel_crud))]
) -> Slice[Any]:
    return await parcel_crud.get_multi(db, params=params, viewer=None)


@router.post("/", status_code=201)
async def create_parcel(
    db: DbWrite, current_user: CurrentUser, parcel_in: ParcelIn
) -> Created[Any]:
    return await parcel_crud.create(db, obj_in=parcel_in, viewer=current_user)


@router.get("/{parcel_id:id}")
async def read_parcel(
    parcel: Annotated[Stored[Any], Depends(readable(parcel_crud))],
) -> Stored[Any]:
    return parcel


@router.patch("/{parcel_id:id}", response_model=ParcelOut)
async def update_parcel(
    db: DbSession,
    parcel: Annotated[Parcel, Depends(writable(parcel_crud))],
    parcel_in: ParcelChange,
) -> Parcel:
    changed: Parcel = await parcel_crud.update(db, db_obj=parcel, obj_in=parcel_in)
    return changed


@files.post("/import", response_model=ImportReport)
async def import_parcels(
    report: Annotated[ImportReport, Depends(import_of(parcel_crud, ParcelIn))],
) -> ImportReport:
    return report


@files.get("/export", response_class=Download)
async def export_parcels(
    download: Annotated[Download, Depends(export_of(parcel_crud, ParcelIn))],
) -> Download:
    return download


@pytest.fixture(scope="module")
def extended() -> FastAPI:
    api = APIRouter()
    api.include_router(specimen_router)
    for each in (files, router):
        api.include_router(each, prefix="/parcels")
    return create_app(settings, accounts=user_crud, routers={settings.API_V1_PREFIX: api})


@pytest.fixture
async def alice(extended: FastAPI, database: Database) -> AsyncIterator[httpx2.AsyncClient]:
    async with database.transaction() as db:
        await (await db.connection()).run_sync(Base.metadata.create_all)
    transport = httpx2.ASGITransport(extended)
    base_url = f"http://testserver{settings.API_V1_PREFIX}"
    async with (
        lifespan(extended),
        httpx2.AsyncClient(transport=transport, base_url=base_url, headers=ALICE.headers) as client,
    ):
        yield client


PARCELS: list[dict[str, Any]] = [
    {"number": "A", "urgency": "high", "weight": "2.500", "due_at": "2026-11-24T12:00:00Z"},
    {"number": "B", "urgency": "low", "weight": "-0.050", "due_at": None},
    {"number": "C", "urgency": "normal", "weight": "12.000", "due_at": None},
]
FILE = (
    "number,urgency,weight,due_at\r\n"
    "A,high,2.500,2026-11-24T12:00:00Z\r\nB,low,-0.050,\r\nC,normal,12.000,\r\n"
)


async def numbers(client: httpx2.AsyncClient, **params: Any) -> str:
    answer = await client.get("/parcels/", params=params)
    assert answer.status_code == 200, answer.text
    return "".join(item["number"] for item in answer.json()["items"])


async def test_type_of_ones_own_goes_in_and_out_by_json(alice: httpx2.AsyncClient) -> None:
    for number, parcel in enumerate(PARCELS, 1):
        created = await alice.post("/parcels/", json=parcel)
        assert created.status_code == 201, created.text
        assert created.json() == {"id": number} | parcel
        assert (await alice.get(f"/parcels/{number}")).text == created.text
        changed = await alice.patch(f"/parcels/{number}", json={"urgency": "normal"})
        assert changed.json() == created.json() | {"urgency": "normal"}
        changed = await alice.patch(f"/parcels/{number}", json={"urgency": parcel["urgency"]})
        assert changed.text == created.text
    wrong = await alice.post("/parcels/", json=PARCELS[0] | {"number": "D", "weight": 1001})
    assert wrong.status_code == 422


async def test_type_of_ones_own_filters_and_sorts(alice: httpx2.AsyncClient) -> None:
    for parcel in PARCELS:
        await alice.post("/parcels/", json=parcel)
    assert await numbers(alice, urgency="low") == "B"
    assert await numbers(alice, urgency__in="low,high") == "AB"
    assert await numbers(alice, urgency__gte="normal") == "AC"
    assert await numbers(alice, weight__gt="2.499", weight__lt=12) == "A"
    assert (await alice.get("/parcels/", params={"urgency": "none"})).status_code == 422
    assert (await alice.get("/parcels/", params={"weight": "1001"})).status_code == 422
    for sort, expected in (("urgency", "BCA"), ("-urgency", "ACB"), ("weight,urgency", "BAC")):
        page = (await alice.get("/parcels/", params={"sort": sort, "limit": 1})).json()
        found = page["items"]
        while cursor := page["next_cursor"]:
            params = {"sort": sort, "limit": 1, "cursor": cursor}
            page = (await alice.get("/parcels/", params=params)).json()
            found += page["items"]
        assert "".join(item["number"] for item in found) == expected


async def test_type_of_ones_own_is_imported_and_exported(alice: httpx2.AsyncClient) -> None:
    with_commas = FILE.replace(",", ";").replace(".", ",")
    for body, params, counts in (
        (FILE, {}, {"created": 3}),
        (with_commas, {"delimiter": "semicolon", "decimal": "comma"}, {"unchanged": 3}),
        (FILE.replace("high", "low"), {}, {"updated": 1, "unchanged": 2}),
        (FILE, {}, {"updated": 1, "unchanged": 2}),
    ):
        csv = {"Content-Type": "text/csv"}
        report = await alice.post("/parcels/import", content=body, params=params, headers=csv)
        assert report.status_code == 200, report.text
        found = {name: report.json()[name] for name in ("created", "updated", "unchanged")}
        assert found == {"created": 0, "updated": 0, "unchanged": 0} | counts
    assert (await alice.get("/parcels/export")).text == FILE
    lines = (await alice.get("/parcels/export", params={"format": "jsonl"})).text
    jsonl = {"Content-Type": "application/jsonl"}
    report = await alice.post("/parcels/import", content=lines, headers=jsonl)
    assert report.json()["unchanged"] == 3
    wrong = await alice.post("/parcels/import", content=FILE.replace("high", "so-so"), headers=csv)
    assert [(error["line"], error["field"]) for error in wrong.json()["errors"]] == [(2, "urgency")]


class Silent(TypeDecorator[Any]):
    impl = SmallInteger
    cache_ok = True


class Spelt(Silent):
    json_spelling: ClassVar = {"postgresql": "{0}", "sqlite": "{0}"}


class Unknown(Spelt):
    python_type = Grams  # of which Pydantic knows nothing


@pytest.mark.parametrize(
    ("kind", "missing"),
    [(Silent, "json_spelling"), (Spelt, "filter_type"), (Unknown, "filter_type")],
)
@pytest.mark.parametrize("use", ["filters", "sorted_by"])
def test_what_a_type_leaves_unsaid_is_asked_for_at_the_start(
    kind: type[Silent], missing: str, use: str
) -> None:
    class Base(DeclarativeBase):
        type_annotation_map: ClassVar = AppBase.type_annotation_map

    class Thing(Identified, Base):
        __tablename__ = "things"

        rank: Mapped[Any] = mapped_column(kind, nullable=False)

    class ThingOut(OutputModel):
        rank: Any

    class CRUDThing(CRUDBase[Any, Any, Any]):
        policy = Policy(read=everybody, write=everybody)
        schema = ThingOut
        filters: ClassVar = {Thing.rank: EQUALITY} if use == "filters" else {}
        sorted_by = (Thing.rank,) if use == "sorted_by" else ()

    said = rf"CRUDThing .*{missing} of {kind.__name__}\(\) is not known; state it on the type"
    with pytest.raises(WrongDeclaration, match=said):
        CRUDThing(Thing)
