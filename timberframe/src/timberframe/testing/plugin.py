"""Fixtures: a fresh database on each engine, clients of the cast, a served process, an outbox."""

import asyncio
import gc
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Hashable, Iterator, Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import cast
from uuid import uuid4

import httpx2
import pytest
from fastapi import FastAPI

from timberframe.data import query as querying
from timberframe.data.query import AnyStatement, Queries, Query
from timberframe.data.session import Database
from timberframe.security import rate_limit
from timberframe.security.passwords import HashCost, Passwords
from timberframe.testing import servers, subject
from timberframe.testing.cast import ADMIN, ALICE, BOB, client_of
from timberframe.testing.databases import (
    ENGINES,
    administering,
    empty_database,
    new_database,
    prepare,
    url_of,
    url_setting,
)
from timberframe.testing.process import ServerProcess, serving
from timberframe.testing.statements import compiled_once
from timberframe_pytest import SCRATCH_FOLDER

MAX_PROOFS = 2  # of one shape: to build a statement costs more than to fetch its rows
NOON = 20_000.5 * 86400  # where windows of all lengths begin


def pytest_configure(config: pytest.Config) -> None:
    subject.use_project_in(config.rootpath)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Collect garbage from now on, but not what was imported: it would take a tenth of the time."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_unconfigure() -> None:
    """Collect garbage once more, which may warn of what was not closed, and then no more.

    It would be done three times, by others and at the interpreter's end, for a second each.
    """
    gc.collect()
    gc.freeze()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deal the tests to the workers; skip the checks that are named.

    `[tool.timberframe.skipped_checks]` has a reason for each of them, by the name of its function.
    """
    workers = int(getattr(config, "workerinput", {}).get("workercount", 1))
    items[:] = _dealt(items, workers)
    reasons = subject.skipped_checks()
    for item in items:
        function = getattr(item, "function", None)
        is_check = getattr(function, "__module__", "").startswith("timberframe.testing.checks.")
        if is_check and (reason := reasons.get(getattr(function, "__name__", ""))):
            item.add_marker(pytest.mark.skip(reason=reason))


def _dealt(items: Sequence[pytest.Item], workers: int) -> list[pytest.Item]:
    """As many for each worker, one worker after another: so does pytest-xdist split them.

    Each begins with its part of the long ones, so that those which another worker takes over at the
    end are short. Long ones of a module stay together, and so do all that use the server, which
    each worker would start for itself.
    """
    groups: dict[Hashable, list[pytest.Item]] = {}
    short = []
    for item in items:
        uses_server = "server" in getattr(item, "fixturenames", ())
        if uses_server or _seconds(item):
            groups.setdefault("server" if uses_server else item.path, []).append(item)
        else:
            short.append(item)
    longest_first = sorted(groups.values(), key=lambda group: -max(map(_seconds, group)))
    dealt, left = list[pytest.Item](), len(items)
    for number in range(workers):
        long = [item for group in longest_first[number::workers] for item in group]
        room = max(0, left // (workers - number) - len(long))
        dealt += [*long, *short[:room]]
        del short[:room]
        left -= len(long) + room
    return dealt + short


def _seconds(item: pytest.Item) -> int:
    marker = item.get_closest_marker("seconds")
    return int(marker.args[0]) if marker else 0


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="session")
def app() -> FastAPI:
    """The project's application; it runs where a test uses `running_app` or a client."""
    return subject.app()


@pytest.fixture(scope="session")
def postgresql_url(scratch_folder: Path) -> Iterator[str]:
    with servers.postgresql(scratch_folder / "postgresql") as url:
        yield url


@pytest.fixture(scope="session")
def postgresql_administration(postgresql_url: str) -> Iterator[Callable[[str], None]]:
    with administering(postgresql_url) as run_sql:
        yield run_sql


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    with servers.valkey() as url:
        yield url


@pytest.fixture(scope="session")
def scratch_folder(pytestconfig: pytest.Config) -> Path:
    """One for all workers of a run: what is made in it needs a name of its own."""
    return pytestconfig.stash[SCRATCH_FOLDER]


@pytest.fixture(scope="session")
def sqlite_template(scratch_folder: Path, cheap_hashes: None) -> Path:
    path = scratch_folder / f"template_{os.getpid()}.db"
    prepare(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def postgresql_template(
    postgresql_url: str, postgresql_administration: Callable[[str], None], cheap_hashes: None
) -> str:
    name = f"template_{subject.project().name}_{os.getpid()}"
    postgresql_administration(f'CREATE DATABASE "{name}"')
    prepare(url_of(postgresql_url, name))
    return name


@pytest.fixture(scope="session", autouse=True)
def statements_are_compiled_once() -> Iterator[None]:
    with compiled_once():
        yield


@pytest.fixture(scope="session", autouse=True)
def shapes_say_all() -> Iterator[None]:
    """Prove that a statement depends on its shape alone: build some of those that are kept again.

    A shape that forgets a part would answer one request with the statement of another.
    """
    proofs: Counter[Hashable] = Counter()
    get = Queries.get

    def get_proven(self: Queries, shape: Hashable, build: Callable[[], AnyStatement]) -> Query:
        is_kept = shape in self._kept
        query = get(self, shape, build)
        if is_kept and proofs[shape] < MAX_PROOFS:
            proofs[shape] += 1
            # Compiled only if it differs from all that were, since statements are compiled once.
            again = querying.Query(build(), self._dialect)
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
def real_hashes(cheap_hashes: None, monkeypatch: pytest.MonkeyPatch) -> None:
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
        monkeypatch.setattr(settings, "DATABASE_URL", url_setting(url))
        asyncio.run(empty_database())
        yield url
        return
    template = request.getfixturevalue(f"{engine}_template")
    with new_database(engine, request, template) as url:
        monkeypatch.setattr(settings, "DATABASE_URL", url_setting(url))
        yield url


@pytest.fixture
def empty_database_url(
    engine: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """A database without any tables, which the settings name too."""
    with new_database(engine, request, template=None) as url:
        monkeypatch.setattr(subject.settings(), "DATABASE_URL", url_setting(url))
        yield url


@pytest.fixture
def outbox(scratch_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder to which the application writes mail, since no server for it is set.

    It is there as soon as there is a message. To make a `tmp_path` for it would take longer than
    the rest of the fixture.
    """
    folder = scratch_folder / f"outbox_{uuid4().hex}"
    monkeypatch.setattr(subject.settings(), "MAIL_FOLDER", folder)
    return folder


@pytest.fixture
async def running_app(app: FastAPI, database_url: str, outbox: Path) -> AsyncIterator[None]:
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
            url = stack.enter_context(new_database(engine, request, templates[engine]))
            server = serving("--workers", "2", DATABASE_URL=url)
            return url, stack.enter_context(server)

        yield serve


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
