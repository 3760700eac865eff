"""A database that is behind the code, ahead of it, or of other code is noticed and named."""

import asyncio
import multiprocessing
from pathlib import Path

import httpx2
import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from specimen.config import settings
from specimen.main import app
from timberframe.data.revisions import Migration, compare, known_migrations
from timberframe.data.session import open_database
from timberframe.data.start import check_database
from timberframe.migrations import CannotMigrate, upgrade
from timberframe.testing import (
    call_command,
    client_of,
    database_options,
    lifespan,
    serving,
)

VERSIONS = settings.project.migrations
LAST = list(known_migrations(VERSIONS).values())[-1]


async def run_sql(statement: str) -> None:
    async with open_database(database_options()) as database, database.transaction() as db:
        await db.execute(text(statement))


async def applied_revisions() -> list[str]:
    async with open_database(database_options()) as database, database.reading() as db:
        return list(await db.scalars(text("SELECT version_num FROM alembic_version")))


async def readiness() -> httpx2.Response:
    async with client_of() as client:
        return await client.get("http://testserver/health/ready")


async def test_readiness_names_the_migration_that_the_database_lacks(
    empty_database_url: str,
) -> None:
    async with lifespan(app):
        new = await readiness()
        await asyncio.to_thread(upgrade, database_options(), "head-1")
        behind = await readiness()
        await asyncio.to_thread(upgrade, database_options())
        migrated = await readiness()
    assert (new.status_code, new.json()["code"]) == (503, "migration_pending")
    assert f"lacks {len(known_migrations(VERSIONS))} migrations" in new.json()["detail"]
    assert (behind.status_code, behind.json()["code"]) == (503, "migration_pending")
    assert behind.json()["detail"] == f"The database lacks 1 migration: {LAST}"
    assert migrated.status_code == 200


PENDING = f"lacks 1 migration: {LAST}: run specimen migrate"


def test_start_says_that_a_migration_is_pending(empty_database_url: str) -> None:
    upgrade(database_options(), "head-1")
    with capture_logs() as logs:
        asyncio.run(check_database(database_options(), workers=1))
    assert [entry["event"] for entry in logs] == ["migration_pending"]
    assert PENDING in logs[0]["detail"]
    assert call_command("migrate").stdout == f"Applied 1 migration: {LAST}\n"
    assert call_command("migrate").stdout == f"Up to date: {LAST}\n"


@pytest.mark.seconds(4)
@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_server_starts_all_the_same_and_is_ready_once_it_is_applied(
    empty_database_url: str,
) -> None:
    upgrade(database_options(), "head-1")
    with serving(DATABASE_URL=empty_database_url) as server:
        assert httpx2.get(f"{server.url}/health/ready").status_code == 503
        assert httpx2.get(f"{server.url}/health/live").status_code == 200
        upgrade(database_options())
        assert httpx2.get(f"{server.url}/health/ready").status_code == 200
        assert PENDING in server.log.read_text()


async def test_code_that_is_older_than_its_database_is_ready_and_says_so(
    database_url: str,
) -> None:
    """Servers that still run the old code must not drop out when the new code has migrated."""
    await run_sql("UPDATE alembic_version SET version_num = 'feedfacecafe'")
    async with lifespan(app):
        assert (await readiness()).status_code == 200
    with capture_logs() as logs:
        await check_database(database_options(), workers=1)
    assert [entry["event"] for entry in logs] == ["migration_unknown"]
    assert "at revision feedfacecafe" in logs[0]["detail"]
    with pytest.raises(CannotMigrate, match="at revision feedfacecafe, which this code does not"):
        await asyncio.to_thread(upgrade, database_options())


async def test_start_says_nothing_of_a_database_that_is_up_to_date(database_url: str) -> None:
    with capture_logs() as logs:
        await check_database(database_options(), workers=1)
    assert logs == []


async def test_migration_that_fails_is_named_and_changes_nothing(empty_database_url: str) -> None:
    first, second, *_ = known_migrations(VERSIONS).values()
    await asyncio.to_thread(upgrade, database_options(), first.revision)
    await run_sql("CREATE TABLE idempotency_keys (id INTEGER)")
    with pytest.raises(CannotMigrate) as failed:
        await asyncio.to_thread(upgrade, database_options())
    assert failed.value.detail.startswith(f"{second.path.name} failed, and nothing was changed: ")
    assert failed.value.detail.endswith("already exists")
    assert await applied_revisions() == [first.revision]


def test_database_of_an_edited_migration_is_not_migrated(empty_database_url: str) -> None:
    """Its revision is known, its schema is not: all would seem well until the first request."""
    first, *_ = known_migrations(VERSIONS).values()
    upgrade(database_options(), first.revision)
    asyncio.run(run_sql("ALTER TABLE products DROP COLUMN version"))
    ended = call_command("migrate")
    assert ended.returncode == 1
    assert ended.stderr.startswith(
        "specimen: nothing was changed: after all migrations the database"
    )
    assert "would lack the column version of products: no migration makes it, or" in ended.stderr
    assert 'alembic upgrade head, then specimen migration "what it does"' in ended.stderr
    assert asyncio.run(applied_revisions()) == [first.revision]


def test_migrating_says_how_to_write_a_migration_that_was_forgotten(database_url: str) -> None:
    """The models then have what the database lacks."""
    asyncio.run(run_sql("ALTER TABLE products DROP COLUMN version"))
    ended = call_command("migrate")
    assert ended.returncode == 1
    assert ended.stderr == (
        "specimen: the database lacks the column version of products: no migration makes it, or it"
        ' was dropped or changed afterwards; to write a migration: specimen migration "what it'
        ' does"\n'
    )


def test_revisions_of_merged_branches_are_all_applied(tmp_path: Path) -> None:
    parents = {"a": None, "b": "a", "c": "a", "d": ("b", "c")}
    migrations = {}
    for revision, down in parents.items():
        path = tmp_path / f"{revision}.py"
        path.write_text(
            f'"""make {revision}"""\nrevision = "{revision}"\ndown_revision = {down!r}\n'
        )
        migrations[revision] = Migration(path)
    assert compare({"d"}, migrations).pending == []
    assert compare({"b"}, migrations).pending == [migrations["c"], migrations["d"]]
    assert compare(set(), migrations).pending == list(migrations.values())


def test_migrations_are_known_in_the_order_in_which_they_apply(tmp_path: Path) -> None:
    """Whatever the names of their files are."""
    for name, down in {"c": None, "a": "c", "b": "a"}.items():
        source = f'"""make {name}"""\nrevision = "{name}"\ndown_revision = {down!r}\n'
        (tmp_path / f"{name}.py").write_text(source)
    assert list(known_migrations(tmp_path)) == ["c", "a", "b"]


# Python 3.12 warns of threads at a fork; here that of xdist, which the processes do not need.
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_several_processes_may_migrate_at_once(empty_database_url: str) -> None:
    forking = multiprocessing.get_context("fork")
    begin = forking.Barrier(4)

    def migrate() -> None:
        begin.wait()
        upgrade(database_options())

    processes = [forking.Process(target=migrate) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=60)
    assert [process.exitcode for process in processes] == [0] * 4
    assert asyncio.run(applied_revisions()) == [LAST.revision]
