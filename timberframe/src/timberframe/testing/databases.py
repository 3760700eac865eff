"""Databases of the tests: made from a template, and dropped by the kit that made them."""

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast
from uuid import uuid4

import asyncpg
import pytest
from pydantic import SecretStr
from sqlalchemy import delete, true, update
from sqlalchemy.engine import make_url
from sqlalchemy.pool import QueuePool

from timberframe.data.base import Base
from timberframe.data.session import Database, open_database
from timberframe.migrations import upgrade
from timberframe.testing import subject
from timberframe.testing.cast import ADMIN, CAST, add_cast

ENGINES = ("sqlite", "postgresql")


def prepare(url: str) -> None:
    """Migrate a database and add the cast: hashing their passwords in every test would be slow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subject.settings(), "DATABASE_URL", url_setting(url))
        upgrade(subject.database_options())
        asyncio.run(add_cast())


def url_setting(url: str) -> SecretStr:
    """As the settings have it: to make settings would take as long as the rest of the fixture."""
    parsed = make_url(url)
    engine = parsed.get_backend_name()
    driver = {"sqlite": "aiosqlite", "postgresql": "asyncpg"}[engine]
    named = parsed.set(drivername=f"{engine}+{driver}")
    return SecretStr(named.render_as_string(hide_password=False))


def url_of(url: str, name: str) -> str:
    return make_url(url).set(database=name).render_as_string(hide_password=False)


@contextmanager
def administering(url: str) -> Iterator[Callable[[str], None]]:
    """Runs SQL over one connection: to connect takes as long as to make a database."""
    with asyncio.Runner() as runner:
        connection = runner.run(asyncpg.connect(url))
        yield lambda statement: runner.run(connection.execute(statement))
        runner.run(connection.close())


@contextmanager
def new_database(
    engine: str, request: pytest.FixtureRequest, template: Path | str | None
) -> Iterator[str]:
    project = subject.project().name
    # The kit drops databases with such names alone, and two runs at once do not meet.
    name = f"test_{project}_{os.getpid()}_{uuid4().hex[:12]}"
    if engine == "sqlite":
        folder: Path = request.getfixturevalue("scratch_folder") / name
        folder.mkdir()
        file = folder / f"{project}.db"
        if isinstance(template, Path):
            shutil.copyfile(template, file)
        yield f"sqlite:///{file}"
        shutil.rmtree(folder)
        return
    server: str = request.getfixturevalue("postgresql_url")
    run_sql = request.getfixturevalue("postgresql_administration")
    run_sql(f'CREATE DATABASE "{name}" TEMPLATE "{template or "template0"}" STRATEGY file_copy')
    yield url_of(server, name)
    run_sql(f'DROP DATABASE "{name}" WITH (FORCE)')


async def empty_database() -> None:
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


def connections_taken(database: Database) -> int:
    engines = {database.engine, database._reading_engine}
    return sum(cast(QueuePool, engine.pool).checkedout() for engine in engines)
