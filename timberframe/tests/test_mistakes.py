"""The commonest mistakes of an application: what is said of each, and that it says what to do."""

from collections.abc import Callable
from typing import Annotated, Any

import httpx2
import pytest
from fastapi import APIRouter, Depends
from sqlalchemy import MetaData, text
from sqlalchemy.exc import MissingGreenlet
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from specimen import schemas
from specimen.config import settings
from specimen.crud import CRUDProduct, product_crud, user_crud
from specimen.models import Product, User
from timberframe.app import create_app
from timberframe.commands.loading import CannotLoad, located
from timberframe.crud import EQUALITY, CRUDBase, Database, Policy, Principal, UnitOfWork, everybody
from timberframe.errors import WrongDeclaration
from timberframe.http.advice import advice_for
from timberframe.results import Created, Slice, Stored
from timberframe.routes import (
    CurrentUser,
    DbRead,
    DbSession,
    DbWrite,
    OptionalUser,
    Router,
    creator_of,
    get_current_user,
    listed,
)
from timberframe.schemas import Pagination
from timberframe.testing import ALICE, lifespan

# pyright and mypy find most of these before they run.
# mypy: disable-error-code="return-value,attr-defined,call-arg,arg-type,union-attr"

ProductParams = Annotated[Pagination, Depends(listed(product_crud))]
ProductCreator = Annotated[Principal, Depends(creator_of(product_crud))]


def no_policy(router: Router) -> None:
    class CRUDForgetful(CRUDBase[Product, Any, Any]):
        schema = schemas.Product

    CRUDForgetful(Product)


def no_schema(router: Router) -> None:
    class CRUDForgetful(CRUDBase[Product, Any, Any]):
        policy = Policy(read=everybody, write=everybody)

    CRUDForgetful(Product)


def column_of_another_model(router: Router) -> None:
    type("CRUDMistaken", (CRUDProduct,), {"filters": {User.email: EQUALITY}})(Product)


def name_of_a_column(router: Router) -> None:
    type("CRUDMistaken", (CRUDProduct,), {"filters": {"sku": EQUALITY}})(Product)


def two_routes_with_one_path(router: Router) -> None:
    @router.get("/things/{thing_id:id}")
    async def read_thing(thing_id: int) -> int:
        return 1

    @router.get("/things/{id:id}")
    async def read_other_thing(id: int) -> int:
        return 2


def handler_that_is_no_coroutine(router: Router) -> None:
    @router.get("/things")
    def read_things() -> int:
        return 1


def session_without_its_dependency(router: Router) -> None:
    @router.get("/things")
    async def read_things(db: UnitOfWork) -> int:
        return 1


def database_without_its_dependency(router: Router) -> None:
    @router.get("/things")
    async def read_things(db: Database) -> int:
        return 1


def caller_from_the_body(router: Router) -> None:
    @router.post("/things")
    async def create_thing(caller: Principal | None) -> int:
        return 1


def model_without_a_schema(router: Router) -> None:
    @router.get("/things")
    async def read_thing(db: DbSession) -> Product | None:
        return None


class OtherBase(DeclarativeBase):
    metadata = MetaData()


def two_models_with_one_table(router: Router) -> None:
    class Thing(OtherBase):
        __tablename__ = "things"
        id: Mapped[int] = mapped_column(primary_key=True)

    class OtherThing(OtherBase):
        __tablename__ = "things"
        id: Mapped[int] = mapped_column(primary_key=True)


def table_without_a_key(router: Router) -> None:
    class Keyless(OtherBase):
        __tablename__ = "keyless"
        name: Mapped[str]


AT_START: dict[Callable[[Router], None], str] = {
    no_policy: "CRUDForgetful must state its policy, such as policy = Policy(read=",
    no_schema: "CRUDForgetful must state its schema, such as schema = schemas.Product",
    column_of_another_model: (
        "CRUDMistaken cannot have User.email in filters: it is not a column of Product"
    ),
    name_of_a_column: (
        "cannot have 'sku' in filters: it is not a column of Product, but Product.sku is"
    ),
    two_routes_with_one_path: (
        "GET /things/{id} is the route of read_thing already, so read_other_thing would never"
        " answer: change the path or the method of one of them"
    ),
    handler_that_is_no_coroutine: "/things: read_things must be declared with `async def`",
    session_without_its_dependency: "annotate it as DbSession",
    database_without_its_dependency: "annotate it as DbRead",
    caller_from_the_body: (
        "/things: create_thing takes caller: Principal, which no request contains:"
        " annotate it as CurrentUser"
    ),
    model_without_a_schema: (
        "/things: read_thing returns a model, so its route needs response_model=schemas.Product"
    ),
    two_models_with_one_table: "→ two models have this __tablename__: rename one of them",
    table_without_a_key: "→ derive the model from Record, which has an id",
}


@pytest.mark.parametrize("mistake", AT_START, ids=lambda each: each.__name__)
def test_mistake_is_told_at_the_start_with_its_line(mistake: Callable[[Router], None]) -> None:
    with pytest.raises((WrongDeclaration, CannotLoad)) as refused, located():
        mistake(Router())
    assert AT_START[mistake] in refused.value.detail
    assert "test_mistakes.py:" in refused.value.detail


async def test_caller_would_come_from_the_body(client: httpx2.AsyncClient) -> None:
    """The control of the check of `Principal`: a router of FastAPI's takes what anybody sends."""
    router = APIRouter()

    @router.post("/things")
    async def create_thing(caller: Principal) -> bool:
        return caller.is_superuser

    app = create_app(settings, accounts=user_crud, routers={"": router})
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://testserver") as anybody:
        answer = await anybody.post("/things", json={"id": 1, "is_superuser": True})
    assert answer.json() is True


def test_caller_by_a_default_is_a_dependency() -> None:
    @Router().get("/things")
    async def read_things(caller: Principal = Depends(get_current_user)) -> int:  # noqa: B008
        return 1


def test_relationship_to_an_unknown_model_is_told_at_the_start() -> None:
    class Related(OtherBase):
        __tablename__ = "related"
        id: Mapped[int] = mapped_column(primary_key=True)
        other: Mapped["Nowhere"] = relationship()  # type: ignore[name-defined]  # noqa: F821

    try:
        with pytest.raises(CannotLoad, match="→ correct the name, or import the module"), located():
            create_app(settings, accounts=user_crud, routers={})
    finally:
        OtherBase.registry.dispose()


def await_forgotten_in_a_list(router: Router) -> None:
    @router.get("/", response_model=schemas.ProductList)
    async def read_products(
        db: DbRead, params: ProductParams, viewer: OptionalUser
    ) -> Slice[Product]:
        return product_crud.get_multi(db, params=params, viewer=viewer)


def await_forgotten_in_a_write(router: Router) -> None:
    @router.post("/", response_model=schemas.Product, status_code=201)
    async def create_product(creator: ProductCreator, db: DbWrite) -> Created[Product]:
        made = schemas.ProductCreate(sku="X-1", name="X", price="1.00")
        return product_crud.create(db, obj_in=made, viewer=creator, owner_id=creator.id)


def await_forgotten_before_an_attribute(router: Router) -> None:
    @router.get("/")
    async def read_name(db: DbSession, caller: CurrentUser) -> str:
        read = db.get(User, caller.id)
        try:
            return str(read.username)
        finally:
            read.close()


def another_type_than_was_said(router: Router) -> None:
    @router.get("/", response_model=schemas.Product)
    async def read_product(db: DbRead) -> Stored[Product]:
        return {"id": 1}


def another_type_in_a_write(router: Router) -> None:
    @router.post("/", response_model=schemas.Product, status_code=201)
    async def create_product(db: DbSession) -> Created[Product]:
        return {"id": 1}


def row_of_another_model(router: Router) -> None:
    @router.get("/", response_model=schemas.Product)
    async def read_product(db: DbSession, caller: CurrentUser) -> Any:
        return await db.get_one(User, caller.id)


def attribute_outside_of_its_session(router: Router) -> None:
    @router.get("/")
    async def read_name(database: DbRead, caller: CurrentUser) -> str:
        async with database.reading() as db:
            user = await db.get_one(User, caller.id)
            db.expire(user)
        return user.username


def table_that_is_missing(router: Router) -> None:
    @router.get("/")
    async def count(db: DbRead) -> int:
        async with db.reading() as session:
            return int(await session.scalar(text("SELECT count(*) FROM nowhere")) or 0)


def write_in_a_get(router: Router) -> None:
    @router.get("/")
    async def rename(db: DbSession, caller: CurrentUser) -> None:
        user = await db.get_one(User, caller.id)
        user.full_name = "Renamed"


IN_A_REQUEST: dict[Callable[[Router], None], str] = {
    await_forgotten_in_a_list: "read_products returned ReadBase.get_multi(…) without `await`",
    await_forgotten_in_a_write: "create_product returned CRUDBase.create(…) without `await`",
    await_forgotten_before_an_attribute: "→ `await` is missing where the value comes from",
    another_type_than_was_said: "read_product returned a dict, but its annotation says Stored",
    another_type_in_a_write: "create_product returned a dict, but its annotation says Created",
    row_of_another_model: (
        "read_product returned a User, but its route answers with Product: sku: Field required, "
    ),
    attribute_outside_of_its_session: "→ an attribute is not loaded, and only `await` can load it",
    table_that_is_missing: "→ the database lacks it: the command `check` says which migration",
    write_in_a_get: "GET changed rows, which are never stored: change them in a POST, PUT,",
}


@pytest.mark.usefixtures("database_url")
async def test_mistake_in_a_request_is_logged_with_what_to_do(
    capsys: pytest.CaptureFixture[str],
) -> None:
    routers: dict[str, APIRouter] = {}
    for mistake in IN_A_REQUEST:
        routers[f"/{mistake.__name__}"] = router = Router()
        mistake(router)
    app = create_app(settings, accounts=user_crud, routers=routers)
    transport = httpx2.ASGITransport(app)
    async with (
        lifespan(app),
        httpx2.AsyncClient(
            transport=transport, base_url="http://testserver", headers=ALICE.headers
        ) as alice,
    ):
        for mistake, what_to_do in IN_A_REQUEST.items():
            name = mistake.__name__
            method = "POST" if name.endswith("in_a_write") else "GET"
            capsys.readouterr()
            answer = await alice.request(method, f"/{name}/")
            assert answer.status_code == 500, name
            assert answer.json()["detail"] == "Internal server error"
            log = capsys.readouterr().out
            assert what_to_do in log, log
            assert "starlette" not in log


def test_attribute_that_only_await_can_load_is_told() -> None:
    """Without a request: what SQLAlchemy has begun by then is never awaited, which is a warning."""
    assert str(advice_for(MissingGreenlet())).startswith("an attribute is not loaded")
    assert advice_for(ValueError("another")) is None
