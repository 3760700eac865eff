"""Conflicts between transactions: run again unseen, or refused in the end, never half done."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from decimal import Decimal
from typing import Annotated, Any

import httpx2
import pytest
from fastapi import BackgroundTasks, Body, FastAPI
from sqlalchemy import delete, select, text, update

from specimen.crud import product_crud
from specimen.models import Product
from timberframe.data import retries
from timberframe.data.retries import TransactionConflict, retrying
from timberframe.data.session import Database
from timberframe.errors import Unavailable
from timberframe.http.dependencies import DbSession
from timberframe.routes import Router
from timberframe.testing import ALICE, create_app, lifespan

pytestmark = pytest.mark.seconds(4)

ROUNDS = 6
on_postgresql = pytest.mark.parametrize("engine", ["postgresql"], indirect=True)

router = Router()
runs: list[object] = []
holding: set[int] = set()
meetings: list[asyncio.Event] = []


@router.post("/move/{giver}/{taker}")
async def move_stock(db: DbSession, giver: int, taker: int) -> None:
    """Take one row, then the other: two that go in opposite directions end in a deadlock."""
    await add(db, giver, -1)
    await meet(db, giver)
    await add(db, taker, 1)


async def add(db: DbSession, product_id: int, pieces: int) -> None:
    one = update(Product).where(Product.id == product_id)
    await db.execute(one.values(stock=Product.stock + pieces))


async def meet(db: DbSession, product_id: int) -> None:
    """Wait until the other has its first row; on SQLite it gets none before this one is done."""
    holding.add(product_id)
    if len(holding) == 2:
        meetings[-1].set()
    patience = 0.05 if db.get_bind().dialect.name == "sqlite" else 10
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(meetings[-1].wait(), patience)


@router.post("/lose/{times}")
async def lose(db: DbSession, times: int, body: Annotated[Any, Body()]) -> Any:
    """Write, and be beaten so many times."""
    runs.append(body)
    await db.execute(update(Product).values(stock=Product.stock + 1))
    if len(runs) <= times:
        raise TransactionConflict("Beaten")
    return body


@router.get("/lose/{times}")
async def lose_reading(db: DbSession, times: int) -> int:
    runs.append(await db.scalar(select(1)))
    if len(runs) <= times:
        raise TransactionConflict("Beaten")
    return len(runs)


@router.post("/change-what-is-gone")
async def change_what_is_gone(db: DbSession) -> int:
    """The row is deleted between reading and writing, once."""
    product = (await db.scalars(select(Product).order_by(Product.id).limit(1))).one()
    runs.append(product.id)
    if len(runs) == 1:
        gone = delete(Product).where(Product.id == product.id)
        await db.execute(gone.execution_options(synchronize_session=False))
    product.stock += 1
    await product_crud._flush(db)
    return product.id


@router.post("/later")
async def do_later(background_tasks: BackgroundTasks) -> None:
    async def fail() -> None:
        runs.append("later")
        raise TransactionConflict("Beaten")

    background_tasks.add_task(fail)


@pytest.fixture(scope="module")
def extended() -> FastAPI:
    app = create_app()
    app.include_router(router)
    return app


@pytest.fixture
async def app(extended: FastAPI, database_url: str) -> AsyncIterator[FastAPI]:
    runs.clear()
    async with lifespan(extended):
        async with extended.state.database.transaction() as db:
            for sku in ("A", "B"):
                price = Decimal(1)
                db.add(
                    Product(
                        sku=sku, name=sku, price=price, currency="EUR", stock=99, owner_id=ALICE.id
                    )
                )
        yield extended


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://testserver") as client:
        yield client


async def stocks(app: FastAPI) -> list[int]:
    database: Database = app.state.database
    async with database.reading() as db:
        return list(await db.scalars(select(Product.stock).order_by(Product.id)))


@pytest.fixture
async def deadlocks_found_soon(engine: str, app: FastAPI) -> None:
    if engine == "postgresql":
        async with app.state.database.transaction() as db:
            name = await db.scalar(text("SELECT current_database()"))
            await db.execute(text(f"ALTER DATABASE {name} SET deadlock_timeout = '10ms'"))
        await app.state.database.engine.dispose()


async def rounds_of_two(client: httpx2.AsyncClient) -> list[int]:
    statuses = []
    for _ in range(ROUNDS):
        holding.clear()
        meetings.append(asyncio.Event())
        both = client.post("/move/1/2"), client.post("/move/2/1")
        statuses += [answer.status_code for answer in await asyncio.gather(*both)]
    return statuses


@pytest.mark.usefixtures("deadlocks_found_soon")
async def test_deadlock_is_unseen(client: httpx2.AsyncClient, app: FastAPI) -> None:
    assert await rounds_of_two(client) == [200] * (2 * ROUNDS)
    assert await stocks(app) == [99, 99]


@on_postgresql
@pytest.mark.usefixtures("deadlocks_found_soon")
async def test_deadlock_is_seen_without_a_second_attempt(
    client: httpx2.AsyncClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: in each round one of the two is the victim."""
    monkeypatch.setattr(retries, "MAX_ATTEMPTS", 1)
    statuses = await rounds_of_two(client)
    assert statuses.count(503) == ROUNDS
    assert statuses.count(200) == ROUNDS


@on_postgresql
async def test_serialization_failure_is_a_conflict(app: FastAPI) -> None:
    serializable = text("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
    database: Database = app.state.database

    async def add_one() -> None:
        async with database.transaction() as db:
            await db.execute(serializable)
            stock = await db.scalar(select(Product.stock).where(Product.id == 1)) or 0
            await asyncio.sleep(0.05)
            await db.execute(update(Product).where(Product.id == 1).values(stock=stock + 1))

    async def twice(add: Callable[[], Awaitable[None]]) -> list[BaseException | None]:
        return list(await asyncio.gather(add(), add(), return_exceptions=True))

    assert sum(isinstance(e, TransactionConflict) for e in await twice(add_one)) == 1
    assert await twice(lambda: retrying(add_one)) == [None, None]
    assert (await stocks(app))[0] == 99 + 3


async def test_same_body_is_read_again_and_written_once(
    client: httpx2.AsyncClient, app: FastAPI
) -> None:
    body = {"text": "x" * 100_000}
    answer = await client.post("/lose/2", json=body)
    assert answer.status_code == 200
    assert answer.json() == body
    assert runs == [body] * 3
    assert await stocks(app) == [100, 100]


async def test_one_conflict_too_many_is_refused(client: httpx2.AsyncClient, app: FastAPI) -> None:
    answer = await client.post("/lose/3", json=1)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert answer.json()["code"] == "unavailable"
    assert await stocks(app) == [99, 99]


async def test_key_is_claimed_anew_by_each_attempt(
    client: httpx2.AsyncClient, app: FastAPI
) -> None:
    key = {"Idempotency-Key": "once"}
    assert (await client.post("/lose/3", json=1, headers=key)).status_code == 503
    answers = [await client.post("/lose/4", json=1, headers=key) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[1].headers["idempotency-replayed"] == "true"
    assert await stocks(app) == [100, 100]


async def test_read_is_run_again_too(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/lose/2")).json() == 3


async def test_row_that_was_deleted_meanwhile_is_read_anew(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/change-what-is-gone")
    assert answer.status_code == 200
    assert runs == [1, 1]


async def test_nothing_runs_again_once_it_is_answered(client: httpx2.AsyncClient) -> None:
    assert (await client.post("/later")).status_code == 200
    assert runs == ["later"]


async def test_command_gives_up_with_a_refusal() -> None:
    attempts: list[None] = []

    async def lose_always() -> None:
        attempts.append(None)
        raise TransactionConflict("Beaten")

    with pytest.raises(Unavailable):
        await retrying(lose_always)
    assert len(attempts) == retries.MAX_ATTEMPTS
