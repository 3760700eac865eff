"""What a resource of one's own may have: columns of any name and kind, and mistakes that show."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, ClassVar
from uuid import UUID

import pytest
from pydantic import BaseModel, Field, computed_field, field_serializer
from sqlalchemy import CheckConstraint, Float, String, UniqueConstraint, insert, select, update
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from specimen import schemas
from specimen.crud import CRUDProduct, category_crud, product_crud
from specimen.models import Product, User
from timberframe.bulk.upsert import Batch, Upsert
from timberframe.crud.base import CRUDBase
from timberframe.crud.events import latest_event, read_events
from timberframe.crud.filters import EQUALITY, RANGE, Condition
from timberframe.crud.policy import SERVER, Policy, Principal, everybody, owner
from timberframe.crud.reading import ReadBase
from timberframe.crud.row_limit import RowLimit
from timberframe.data import events
from timberframe.data.base import Base as AppBase
from timberframe.data.base import Identified, Versioned
from timberframe.data.column_types import Document, UTCDateTime
from timberframe.data.failures import ConstraintViolated
from timberframe.data.session import Database
from timberframe.errors import AlreadyExists, InvalidInput, WrongDeclaration
from timberframe.http.dependencies import DbSession, DbWrite
from timberframe.http.resources import listed
from timberframe.routes import Router
from timberframe.schemas.models import OutputModel
from timberframe.search.query import Search
from timberframe.testing import ALICE, BOB


class Base(DeclarativeBase):
    """Its tables are not in the project's schema."""

    metadata = type(AppBase.metadata)(naming_convention=AppBase.metadata.naming_convention)
    type_annotation_map: ClassVar = AppBase.type_annotation_map


class Visit(Identified, Versioned, Base):
    __tablename__ = "visits"

    code: Mapped[str] = mapped_column(unique=True)
    owner_id: Mapped[int]
    viewer_id: Mapped[int]
    began_at: Mapped[datetime] = mapped_column(UTCDateTime)
    trace: Mapped[UUID]
    notes: Mapped[Any | None] = mapped_column(Document)
    short: Mapped[str | None] = mapped_column(String(10))
    score: Mapped[float | None] = mapped_column(Float)

    __table_args__ = (
        UniqueConstraint("owner_id", "viewer_id", name="uq_visits_pair"),
        CheckConstraint("owner_id <> viewer_id", name="somebody_else"),
    )


class VisitIn(BaseModel):
    code: str
    viewer_id: int
    began_at: datetime = datetime(2026, 11, 24, 12, 30, 0, 120, UTC)
    trace: UUID = UUID(int=7)


class VisitOut(OutputModel):
    id: int
    code: str
    owner_id: int
    viewer_id: int
    began_at: datetime
    trace: UUID


class CRUDVisit(CRUDBase[Any, VisitIn, Any]):
    policy = Policy(read=owner(Visit.owner_id), write=owner(Visit.owner_id))
    schema = VisitOut
    filters: ClassVar = {Visit.viewer_id: EQUALITY, Visit.owner_id: EQUALITY}
    natural_key = "code"


visit_crud = CRUDVisit(Visit)


@pytest.fixture
async def visits(database: Database) -> AsyncIterator[Database]:
    async with database.transaction() as db:
        await (await db.connection()).run_sync(Base.metadata.create_all)
    yield database
    async with database.transaction() as db:
        await (await db.connection()).run_sync(Base.metadata.drop_all)


async def create(database: Database, code: str, owner_id: int, viewer_id: int) -> Any:
    visit_in = VisitIn(code=code, viewer_id=viewer_id)
    return await visit_crud.create(database, obj_in=visit_in, viewer=SERVER, owner_id=owner_id)


async def test_filter_of_any_name_opens_nothing(visits: Database) -> None:
    hers = await create(visits, "A", ALICE.id, 7)
    await create(visits, "B", BOB.id, BOB.id + 1)
    for sent in ({"viewer_id": 7}, {}, {"viewer_id__in": ["7,3"]}):
        params = listed(visit_crud).model.model_validate(sent)
        page = await visit_crud.get_multi(
            visits, params=params, viewer=Principal(ALICE.id, is_superuser=False)
        )
        assert page.items == hers.content
    params = listed(visit_crud).model.model_validate({"viewer_id": BOB.id})
    page = await visit_crud.get_multi(
        visits, params=params, viewer=Principal(ALICE.id, is_superuser=False)
    )
    assert page.items == ""


class VisitTold(VisitOut):
    notes: Any


class CRUDVisitTold(CRUDBase[Any, VisitIn, Any]):
    policy = CRUDVisit.policy
    schema = VisitTold
    events = True


async def test_documents_are_told_as_they_were_stored(visits: Database) -> None:
    """PostgreSQL has no comparison for `json`, and no place for a NUL in `jsonb`."""
    crud = CRUDVisitTold(Visit)
    columns = ("id", "code", "owner_id", "viewer_id", "began_at", "trace", "notes")
    documents = [{"b": "\0 Ä", "a": [1.0, None]}, None, ["1"], ["1"], {}]
    async with visits.transaction() as db:
        connection = await db.connection()
        await connection.run_sync(events.create_v1, "visits", "visit", *columns)
    hers = await create(visits, "A", ALICE.id, 7)
    for document in documents:
        async with visits.transaction() as db:
            await db.execute(update(Visit).values(notes=document))
    upto = await latest_event(visits)
    viewer = Principal(ALICE.id, is_superuser=False)
    rows = await read_events(crud, visits, viewer=viewer, after=0, upto=upto)
    shown = [json.loads(row.content) for row in rows]
    assert [row.pop("notes") for row in shown] == [None, documents[0], None, ["1"], {}]
    assert shown == [json.loads(hers.content)] * 5
    async with visits.transaction() as db:
        await (await db.connection()).run_sync(events.drop_v1, "visits")


async def test_violated_rule_says_which(visits: Database) -> None:
    await create(visits, "A", ALICE.id, 7)
    with pytest.raises(AlreadyExists, match="Visit with this code already exists"):
        await create(visits, "A", ALICE.id, 8)
    with pytest.raises(AlreadyExists, match="this owner_id and viewer_id already exists"):
        await create(visits, "B", ALICE.id, 7)
    with pytest.raises(InvalidInput) as refused:
        await create(visits, "C", ALICE.id, ALICE.id)
    assert refused.value.members["errors"][0]["msg"] == "breaks the rule somebody_else"
    # What a flush raises has another wrapping.
    broken = VisitIn(code="A", viewer_id=ALICE.id)
    async with visits.session() as db:
        visit = await db.scalar(select(Visit))
        with pytest.raises(InvalidInput) as refused:
            await visit_crud.update(db, db_obj=visit, obj_in=broken, viewer=SERVER)
    assert refused.value.members["errors"][0]["msg"] == "breaks the rule somebody_else"


async def test_missing_value_is_our_mistake(visits: Database) -> None:
    visit_in = VisitIn(code="A", viewer_id=7)
    with pytest.raises(ConstraintViolated) as raised:
        await visit_crud.create(visits, obj_in=visit_in, viewer=SERVER)
    assert raised.value.__cause__ not in (None, raised.value)


async def test_upsert_stores_what_create_would(visits: Database) -> None:
    viewer = Principal(ALICE.id, is_superuser=False)
    visit_in = VisitIn(code="A", viewer_id=7)
    upsert = Upsert(visit_crud, VisitIn, viewer, visits.engine.dialect)
    batch = Batch.of([upsert.encode(visit_in)], frozenset(VisitIn.model_fields))
    async with visits.transaction() as db:
        upserted = await upsert.run(db, batch, {"owner_id": ALICE.id})
    assert (upserted.created, upserted.refused) == (1, [])
    page = await visit_crud.get_multi(visits, params=listed(visit_crud).model(), viewer=viewer)
    shown = VisitOut.model_validate_json(page.items)
    assert shown.model_dump(exclude={"id", "owner_id"}) == visit_in.model_dump()
    async with visits.transaction() as db:
        again = await upsert.run(db, batch, {"owner_id": ALICE.id})
    assert (again.created, again.updated, again.unchanged) == (0, 0, 1)


async def test_absent_field_stays_whatever_its_default(database: Database) -> None:
    class PlainUpdate(BaseModel):
        name: str | None = None
        description: str | None = None

    values = {"sku": "S", "name": "N", "price": Decimal(1), "currency": "EUR", "owner_id": ALICE.id}
    async with database.transaction() as db:
        row = values | {"description": "kept"}
        product = (await db.scalars(insert(Product).values(row).returning(Product))).one()
        changed: Any = PlainUpdate(name="New")
        await product_crud.update(db, db_obj=product, obj_in=changed)
        assert (product.name, product.description) == ("New", "kept")


class Tall(BaseModel):
    score: float


class Plain(BaseModel):
    id: int
    short: str


# Types would tell, but not everybody checks them.
BAD_RULE: Any = Product.owner_id
BAD_NAME: Any = "x"
BAD_COLUMN: Any = "owner_id"


class Aliased(schemas.Product):
    name: str = Field(serialization_alias="title")


class Computed(schemas.Product):
    @computed_field  # type: ignore[prop-decorator]  # as Pydantic's documentation has it
    @property
    def label(self) -> str:
        return self.name


class Serialized(schemas.Product):
    @field_serializer("name")
    def in_capitals(self, name: str) -> str:
        return name.upper()


WRONG_OF_PRODUCTS: dict[str, dict[str, Any]] = {
    "cannot show name under the alias title": {"schema": Aliased},
    "cannot show the computed field label": {"schema": Computed},
    "cannot show the serializer in_capitals": {"schema": Serialized},
    "it may be null, and null has no order": {"sorted_by": (Product.description,)},
    "its schema does not show it": {"sorted_by": (Product.version,)},
    "lists already have that parameter": {
        "further_filters": (Condition("limit", "", Product.stock > 0),)
    },
    "by format: lists already have": {
        "further_filters": (Condition("format", "", Product.stock > 0),)
    },
    "by stock: lists already have": {
        "further_filters": (Condition("stock", "", Product.stock > 0),)
    },
    "name by 'gte ': there are eq": {"filters": {Product.name: ("gte ",)}},
    "name by 'contains': there are eq": {"filters": {Product.name: ("eq", "contains")}},
    "stock by 'prefix': int has eq": {"filters": {Product.stock: ("prefix",)}},
    "price by 'prefix': Decimal has eq": {"filters": {Product.price: ("prefix",)}},
    "is_active by 'gte': bool has eq": {"filters": {Product.is_active: RANGE}},
    "stock by 'isnull': it is never null": {"filters": {Product.stock: ("isnull",)}},
    r"filters, name as a tuple.*\(eq,\)": {"filters": {Product.name: ("eq")}},
    "filters as {column: operators}": {"filters": (Product.name,)},
    "'name' in filters: it is not a column": {"filters": {"name": EQUALITY}},
    r"sorted_by as a tuple.*\(name,\)": {"sorted_by": "name"},
    "sorted_by as a tuple": {"sorted_by": (Product.name)},
    "'name' in sorted_by: it is not a column of Product": {"sorted_by": ("name",)},
    "User.username in sorted_by: it is not a column of Product": {"sorted_by": (User.username,)},
    "further_filters as a tuple": {"further_filters": Condition("cheap", "", Product.price < 1)},
    "a further filter that is not a Filter": {"further_filters": (Product.price < 1,)},
    "User.email in search: it is not a column": {"search": Search(Product, User.email)},
    "has the search of User": {"search": Search(User, User.email)},
    "cannot search stock: it is not text": {"search": Search(Product, Product.stock)},
    "must state its max_limit as a number from 1 to 499": {"max_limit": 500},
    "by name: it is not unique": {"natural_key": "name"},
    "'skew' in natural_key": {"natural_key": "skew"},
    "'Product.sku' in natural_key": {"natural_key": Product.sku},
    "owner_id refer to Category": {"references": {Product.owner_id: category_crud}},
    "must state its policy as": {"policy": everybody},
    r"as Search\(Product, …\), with one column or more": {"search": "name"},
    r"as Search\(Product, …\), with": {"search": (Product.name,)},
    r"search as Search\(Product, …\)": {"search": Product.name},
    "with one column or more": {"search": Search(Product)},
    "references as {column: crud of what it names}": {"references": "category"},
    "category refer to 'categories': it must be a crud": {
        "references": {Product.category: "categories"}
    },
    "a Pydantic model, such as schemas.Product: Product is not one": {"schema": Product},
    "such as schemas.Product: 'Product' is not one": {"schema": "Product"},
    r"Product.owner_id as the policy's write: a rule returns a condition, as owner\(Product": {
        "policy": Policy(read=everybody, write=BAD_RULE)
    },
    "'?x'? as the policy's create": {
        "policy": Policy(read=everybody, write=everybody, create=BAD_NAME)
    },
    "whose write returns False: a rule returns": {
        "policy": Policy(read=everybody, write=owner(BAD_COLUMN))
    },
    "whose read returns Product.owner_id": {
        "policy": Policy(read=lambda viewer: BAD_RULE, write=everybody)
    },
    "cannot show score: Product has no such": {"schema": Tall},
    "states filtres, which declares nothing: did you mean filters": {
        "filtres": {Product.name: EQUALITY}
    },
    "states sort_by, .* did you mean sorted_by": {"sort_by": (Product.name,)},
    "states row_limits, .* did you mean row_limit": {"row_limits": RowLimit(Product.owner_id, 9)},
}
WRONG_OF_VISITS: dict[str, dict[str, Any]] = {
    "needs short to be of type Text": {"filters": {Visit.short: ("prefix",)}},
    "cannot show score: json_spelling of Float": {"schema": Tall},
    "cannot filter by score: filter_type of Float": {"filters": {Visit.score: RANGE}},
}


@pytest.mark.parametrize(
    ("crud", "reason", "declarations"),
    [
        *((CRUDProduct, *wrong) for wrong in WRONG_OF_PRODUCTS.items()),
        *((CRUDVisit, *wrong) for wrong in WRONG_OF_VISITS.items()),
    ],
)
def test_declaration_that_cannot_work_does_not_start(
    crud: type[ReadBase[Any]], reason: str, declarations: dict[str, Any]
) -> None:
    """In one sentence; what is declared besides is that of a crud that starts."""
    model: Any = Product if crud is CRUDProduct else Visit
    with pytest.raises(WrongDeclaration, match=f"^CRUDWrong .*{reason}[^\n]*$"):
        type("CRUDWrong", (crud,), declarations)(model)


def test_attribute_of_ones_own_starts() -> None:
    """What has not nearly the name of a declaration, or is a method."""
    own = {"colours": ("red",), "_filtres": {}, "filtered": lambda self: self.filters}
    type("CRUDOwn", (CRUDProduct,), own)(Product)


class NotesIn(BaseModel):
    code: str
    notes: Any


def test_upsert_of_what_cannot_be_compared_does_not_start() -> None:
    dialect: Any = None
    with pytest.raises(TypeError, match="JSON columns, which PostgreSQL cannot compare"):
        Upsert(visit_crud, NotesIn, Principal(1, is_superuser=True), dialect)


def test_upsert_needs_versions_and_a_key() -> None:
    class CRUDKeyless(ReadBase[Any]):
        policy = Policy(read=everybody, write=everybody)
        schema = VisitOut
        references: ClassVar[dict[Any, Any]] = {}

    keyless: Any = CRUDKeyless(Visit)
    dialect: Any = None
    with pytest.raises(TypeError, match="needs versions and a natural_key"):
        Upsert(keyless, VisitIn, Principal(1, is_superuser=True), dialect)


def test_route_has_one_unit_of_work() -> None:
    router = Router()

    async def handler(db: DbSession, write: DbWrite) -> None: ...

    with pytest.raises(TypeError, match="DbSession or DbWrite"):
        router.post("/")(handler)
