"""Fixtures: a fresh database on each engine, clients of the cast, a served process, an outbox."""

import asyncio
import os
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Callable, Hashable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import cast
from uuid import uuid4

import asyncpg
import httpx2
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy import delete, true, update
from sqlalchemy.engine import make_url
from sqlalchemy.pool import QueuePool

from timberframe.data.base import Base
from timberframe.data.query import AnyStatement, Queries, Query
from timberframe.data.session import Database, open_database
from timberframe.migrations import upgrade
from timberframe.security import rate_limit
from timberframe.security.passwords import HashCost, Passwords
from timberframe.testing import servers, subject
from timberframe.testing.cast import ADMIN, ALICE, BOB, CAST, add_cast, client_of
from timberframe.testing.process import ServerProcess, serving

ENGINES = ("sqlite", "postgresql")
MAX_PROOFS = 4  # of one shape: to compile costs ten times as much as to fetch
NOON = 20_000.5 * 86400  # where windows of all lengths begin
MARKERS = (
    "all_resources: looks at all routes, models or cruds; run with generated resources too",
    "seconds(number): how long it takes; the longest are begun first",
)


def pytest_configure(config: pytest.Config) -> None:
    subject.use_project_in(config.rootpath)
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    if not hasattr(config, "workerinput"):
        servers.create_postgresql_user()


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """A file or less is run in this process: two more would take longer to start."""
    is_small = len(config.args) == 1 and ".py" in config.args[0]
    return 0 if is_small else None


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
def app() -> FastAPI:
    """The project's application; it runs where a test uses `running_app` or a client."""
    return subject.app()


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
def sqlite_template(sqlite_folder: Path, cheap_hashes: None) -> Path:
    path = sqlite_folder / "template.db"
    prepare(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def postgresql_template(postgresql_url: str, cheap_hashes: None) -> str:
    name = f"template_{subject.project().name}_{os.getpid()}"
    asyncio.run(_run_sql(postgresql_url, f"CREATE DATABASE {name}"))
    prepare(_database(postgresql_url, name))
    return name


def prepare(url: str) -> None:
    """Migrate a database and add the cast: hashing their passwords in every test would be slow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subject.settings(), "DATABASE_URL", _async_url(url))
        upgrade(subject.database_options())
        asyncio.run(add_cast())


def _async_url(url: str) -> SecretStr:
    return type(subject.settings())(DATABASE_URL=SecretStr(url)).DATABASE_URL


def _database(url: str, name: str) -> str:
    return make_url(url).set(database=name).render_as_string(hide_password=False)


async def _run_sql(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


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


@pytest.fixture(scope="session")
def cheap_hashes() -> Iterator[None]:
    """Argon2id with the smallest parameters: a real hash would cost more than the rest of a test.

    Processes that are started hash as they do in production.
    """
    cheap = Passwords(HashCost(memory_kib=8, passes=1, lanes=1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subject.app().state.accounts, "passwords", cheap)
        yield


@pytest.fixture
def real_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of the hash itself: the application's own parameters."""
    accounts = subject.app().state.accounts
    monkeypatch.setattr(accounts, "passwords", type(accounts).passwords)


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
    settings = subject.settings()
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
        monkeypatch.setattr(subject.settings(), "DATABASE_URL", _async_url(url))
        yield url


@contextmanager
def _new_database(
    engine: str, request: pytest.FixtureRequest, template: Path | str | None
) -> Iterator[str]:
    project = subject.project().name
    # The kit drops databases with such names alone, and two runs at once do not meet.
    name = f"test_{project}_{os.getpid()}_{uuid4().hex[:12]}"
    if engine == "sqlite":
        folder: Path = request.getfixturevalue("sqlite_folder") / name
        folder.mkdir()
        file = folder / f"{project}.db"
        if isinstance(template, Path):
            shutil.copyfile(template, file)
        yield f"sqlite:///{file}"
        shutil.rmtree(folder)
        return
    server: str = request.getfixturevalue("postgresql_url")
    create = f'CREATE DATABASE "{name}" TEMPLATE {template or "template0"} STRATEGY file_copy'
    asyncio.run(_run_sql(server, create))
    yield _database(server, name)
    asyncio.run(_run_sql(server, f'DROP DATABASE "{name}" WITH (FORCE)'))


@pytest.fixture
async def running_app(app: FastAPI, database_url: str) -> AsyncIterator[None]:
    async with subject.lifespan(app):
        yield


@pytest.fixture
def database(app: FastAPI, running_app: None) -> Database:
    return cast(Database, app.state.database)


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
    user = subject.app().state.accounts.model
    async with (
        open_database(subject.database_options()) as database,
        database.transaction() as db,
    ):
        for table in reversed(Base.metadata.sorted_tables):
            others = table.c.id > len(CAST) if table is user.__table__ else true()
            await db.execute(delete(table).where(others))
        await db.execute(update(user).values(is_active=True, is_superuser=user.id == ADMIN.id))


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


def connections_taken(database: Database) -> int:
    engines = {database.engine, database._reading_engine}
    return sum(cast(QueuePool, engine.pool).checkedout() for engine in engines)
