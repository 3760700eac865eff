"""The stage of every test: a fresh database on each engine, and the cast: alice, bob, admin."""

import asyncio
import os
import secrets
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Callable, Hashable, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, cast
from uuid import uuid4

import asyncpg
import httpx2
import pytest
from limits import RateLimitItem
from pydantic import SecretStr
from sqlalchemy import delete, true, update
from sqlalchemy.engine import make_url
from sqlalchemy.pool import QueuePool

# Before the application is imported: no settings of the developer's may leak in.
os.environ["ENV_FILE"] = ""
os.environ["SECRET_KEY"] = secrets.token_urlsafe(32)
for name in ("DATABASE_URL", "REDIS_URL", "SMTP_URL", "ENVIRONMENT", "ALLOWED_HOSTS"):
    os.environ.pop(name, None)

import timberframe.app
from fastapi import FastAPI
from timberframe.crud.policy import SERVER
from timberframe.data.base import Base
from timberframe.data.options import DatabaseOptions
from timberframe.data.query import AnyStatement, Queries, Query
from timberframe.data.session import Database, open_database
from timberframe.migrations import upgrade
from timberframe.security import rate_limit
from timberframe.security.passwords import HashCost, Passwords
from timberframe.security.tokens import Tokens

from app import schemas
from app.api.v1.api import api_router
from app.core.config import settings
from app.crud.user import user_crud
from app.main import app
from app.models import User
from tests import servers
from tests.process import ServerProcess, serving

tokens = Tokens.of(settings)


def create_app() -> FastAPI:
    """The application with the settings as they are now."""
    routers = {settings.API_V1_PREFIX: api_router}
    return timberframe.app.create_app(settings, accounts=user_crud, routers=routers)


def lifespan(app: FastAPI) -> AbstractAsyncContextManager[Any]:
    return app.router.lifespan_context(app)


def database_options() -> DatabaseOptions:
    return DatabaseOptions.of(settings)


ENGINES = ("sqlite", "postgresql")
MAX_PROOFS = 4  # of one shape: to compile costs ten times as much as to fetch
NOON = 20_000.5 * 86400  # where windows of all lengths begin


class Person(NamedTuple):
    id: int
    name: str

    @property
    def email(self) -> str:
        return f"{self.name}@example.com"

    @property
    def password(self) -> str:
        return f"{self.name.title()}-Pass-1"

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {tokens.create(self.id)}"}


ALICE, BOB, ADMIN = CAST = (Person(1, "alice"), Person(2, "bob"), Person(3, "admin"))


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        servers.create_postgresql_user()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first: what is left in the end is short, and shared out among all workers."""

    def seconds(item: pytest.Item) -> int:
        marker = item.get_closest_marker("seconds")
        return int(marker.args[0]) if marker else 0

    items.sort(key=seconds, reverse=True)


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    with servers.postgresql() as url:
        yield url


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    with servers.valkey() as url:
        yield url


@pytest.fixture(scope="session")
def sqlite_folder() -> Iterator[Path]:
    with servers.scratch_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
def sqlite_template(sqlite_folder: Path) -> Path:
    path = sqlite_folder / "template.db"
    prepare(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def postgresql_template(postgresql_url: str) -> str:
    name = f"template_{uuid4().hex}"
    asyncio.run(_run_sql(postgresql_url, f"CREATE DATABASE {name}"))
    prepare(_database(postgresql_url, name))
    return name


def prepare(url: str) -> None:
    """The schema, with the cast in it: hashing their passwords in every test would be slow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings, "DATABASE_URL", _async_url(url))
        upgrade(database_options())
        asyncio.run(_add_cast())


async def _add_cast() -> None:
    async with open_database(database_options()) as database:
        for person in CAST:
            user_in = schemas.UserCreate(
                email=person.email, username=person.name, password=person.password
            )
            user = await user_crud.create(
                database, obj_in=user_in, viewer=SERVER, is_superuser=person is ADMIN
            )
            assert user.id == person.id


def _async_url(url: str) -> SecretStr:
    """As the settings have it: to make settings would take as long as the rest of the fixture."""
    parsed = make_url(url)
    driver = {"sqlite": "aiosqlite", "postgresql": "asyncpg"}[parsed.get_backend_name()]
    named = parsed.set(drivername=f"{parsed.get_backend_name()}+{driver}")
    return SecretStr(named.render_as_string(hide_password=False))


def _database(url: str, name: str) -> str:
    return make_url(url).set(database=name).render_as_string(hide_password=False)


async def _run_sql(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


def change_state(app: FastAPI, monkeypatch: pytest.MonkeyPatch, name: str, **changes: Any) -> None:
    """Change fields of what the application keeps as `name`, such as `options` and `tokens`."""
    state = app.state._state
    monkeypatch.setitem(state, name, replace(state[name], **changes))


def set_limits(app: FastAPI, monkeypatch: pytest.MonkeyPatch, **limits: RateLimitItem) -> None:
    """Change limits of sign-ins and sign-ups, by their names in `SignInLimits`."""
    change_state(app, monkeypatch, "sign_in_limits", **limits)


@pytest.fixture(scope="session", autouse=True)
def shapes_say_all() -> Iterator[None]:
    """Prove that a statement depends on its shape alone: build some of those that are kept again.

    A shape that forgets a part would answer one request with the statement of another.
    """
    proofs: Counter[Hashable] = Counter()
    get = Queries.get

    def get_proven(self: Queries, shape: Hashable, build: Callable[[], AnyStatement]) -> Query:
        query = get(self, shape, build)
        proofs[shape] += 1
        if 1 < proofs[shape] <= MAX_PROOFS:
            again = Query(build(), self._dialect)
            assert again.sql == query.sql, f"{shape} does not say all that its statement depends on"
        return query

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Queries, "get", get_proven)
        yield


@pytest.fixture(scope="session", autouse=True)
def cheap_hashes() -> Iterator[None]:
    """Argon2id with the smallest parameters: a real hash would cost more than the rest of a test.

    Processes that are started hash as they do in production.
    """
    cheap = Passwords(HashCost(memory_kib=8, passes=1, lanes=1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(user_crud, "passwords", cheap)
        yield


@pytest.fixture
def real_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of the hash itself: the application's own parameters."""
    monkeypatch.setattr(user_crud, "passwords", type(user_crud).passwords)


@pytest.fixture(autouse=True)
def no_window_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A window of the rate limiter that ended in a test would forget what was counted in it."""
    monkeypatch.setattr(rate_limit, "clock", lambda: NOON)


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """The engine that this run of the test is on."""
    return str(request.param)


@pytest.fixture
def database_url(
    engine: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """A database of this test alone, which the settings name too; that of `server` is emptied."""
    if "server" in request.fixturenames:
        url, _ = request.getfixturevalue("serve_once")(engine)
        monkeypatch.setattr(settings, "DATABASE_URL", _async_url(url))
        asyncio.run(_empty())
        yield url
        return
    template = request.getfixturevalue(f"{engine}_template")
    with _new_database(engine, request, template) as url:
        monkeypatch.setattr(settings, "DATABASE_URL", _async_url(url))
        yield url


@pytest.fixture
def empty_database_url(
    engine: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """A database without any tables, which the settings name too."""
    with _new_database(engine, request, template=None) as url:
        monkeypatch.setattr(settings, "DATABASE_URL", _async_url(url))
        yield url


@contextmanager
def _new_database(
    engine: str, request: pytest.FixtureRequest, template: Path | str | None
) -> Iterator[str]:
    name = f"test_{uuid4().hex}"
    if engine == "sqlite":
        folder: Path = request.getfixturevalue("sqlite_folder") / name
        folder.mkdir()
        if isinstance(template, Path):
            shutil.copyfile(template, folder / "myapi.db")
        yield f"sqlite:///{folder}/myapi.db"
        shutil.rmtree(folder)
        return
    server: str = request.getfixturevalue("postgresql_url")
    create = f"CREATE DATABASE {name} TEMPLATE {template or 'template0'} STRATEGY file_copy"
    asyncio.run(_run_sql(server, create))
    yield _database(server, name)
    asyncio.run(_run_sql(server, f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
async def running_app(database_url: str) -> AsyncIterator[None]:
    async with lifespan(app):
        yield


@pytest.fixture
def database(running_app: None) -> Database:
    database: Database = app.state.database
    return database


@pytest.fixture(scope="session")
def serve_once(
    request: pytest.FixtureRequest, sqlite_template: Path, postgresql_template: str
) -> Iterator[Callable[[str], tuple[str, ServerProcess]]]:
    """Of each engine a database and its server, begun when they are first asked for."""
    templates: dict[str, Path | str] = {
        "sqlite": sqlite_template,
        "postgresql": postgresql_template,
    }
    with ExitStack() as stack:

        @cache
        def serve(engine: str) -> tuple[str, ServerProcess]:
            url = stack.enter_context(_new_database(engine, request, templates[engine]))
            server = serving("--workers", "2", DATABASE_URL=url)
            return url, stack.enter_context(server)

        yield serve


async def _empty() -> None:
    """Nobody is left but the cast, as it was at first: a test may have disabled somebody."""
    async with open_database(database_options()) as database, database.transaction() as db:
        for table in reversed(Base.metadata.sorted_tables):
            others = table.c.id > len(CAST) if table is User.__table__ else true()
            await db.execute(delete(table).where(others))
        await db.execute(update(User).values(is_active=True, is_superuser=User.id == ADMIN.id))


@pytest.fixture
def server(
    engine: str, database_url: str, serve_once: Callable[[str], tuple[str, ServerProcess]]
) -> ServerProcess:
    """Two processes that serve the same database; others have used them, and may do so again."""
    _, server = serve_once(engine)
    return server


@pytest.fixture
async def client(running_app: None) -> AsyncIterator[httpx2.AsyncClient]:
    """Somebody who has not signed in."""
    async with client_of() as client:
        yield client


@pytest.fixture
async def alice(running_app: None) -> AsyncIterator[httpx2.AsyncClient]:
    async with client_of(ALICE) as client:
        yield client


@pytest.fixture
async def bob(running_app: None) -> AsyncIterator[httpx2.AsyncClient]:
    async with client_of(BOB) as client:
        yield client


@pytest.fixture
async def admin(running_app: None) -> AsyncIterator[httpx2.AsyncClient]:
    async with client_of(ADMIN) as client:
        yield client


def client_of(person: Person | None = None) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app),
        base_url="http://testserver/api/v1",
        headers=person.headers if person else {},
    )


def connections_taken(database: Database) -> int:
    engines = {database.engine, database._reading_engine}
    return sum(cast(QueuePool, engine.pool).checkedout() for engine in engines)
