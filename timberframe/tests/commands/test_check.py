"""`check` finds what is wrong, and nothing where nothing is; `about` shows no secret."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter
from pydantic import SecretStr
from sqlalchemy import Column, Connection, String, text

from specimen import main
from specimen.config import settings
from timberframe.commands.about import describe
from timberframe.commands.check import Finding, find_all
from timberframe.data.base import Base
from timberframe.data.session import open_database
from timberframe.errors import WrongDeclaration
from timberframe.search import index as search_index
from timberframe.settings import Settings
from timberframe.testing import call_command, database_options, free_port

APP = "specimen.main:app"


def found(**changes: Any) -> list[Finding]:
    result = call_command("check", "--json", **changes)
    findings = [Finding(**each) for each in json.loads(result.stdout)]
    assert result.returncode == (1 if findings else 0)
    return findings


def run(statement: str) -> None:
    async def execute() -> None:
        async with open_database(database_options()) as database, database.transaction() as db:
            await db.execute(text(statement))

    asyncio.run(execute())


def test_nothing_is_wrong(database_url: str) -> None:
    result = call_command("check")
    assert (result.returncode, result.stdout.count("\n")) == (0, 1)
    assert result.stdout.startswith("Nothing is wrong")


def test_missing_migrations_are_found(empty_database_url: str) -> None:
    [finding] = found()
    assert finding.id == "migrations.pending"
    assert finding.problem.startswith("the database lacks 5 migrations")
    assert finding.remedy == "specimen migrate"
    said = call_command("check").stdout.splitlines()
    assert said == [f"migrations.pending: {finding.problem}", "  mend: specimen migrate"]


def test_model_without_a_migration_is_found(database_url: str) -> None:
    users = Base.metadata.tables["users"]
    column: Column[str] = Column("nickname", String)
    users.append_column(column)
    try:
        [finding] = found()
    finally:
        users._columns.remove(column)
    assert finding.id == "migrations.missing"
    assert "the column nickname of users" in finding.problem
    assert finding.remedy == 'specimen migration "what it does"'


def test_revision_of_other_code_is_found(database_url: str) -> None:
    run("UPDATE alembic_version SET version_num = 'newer'")
    assert [each.id for each in found()] == ["migrations.unknown"]


LOST = {
    "sqlite": "DROP TRIGGER users_search_insert",
    "postgresql": "DROP TRIGGER users_search_insert ON users",
}


def test_trigger_that_was_dropped_is_found(database_url: str, engine: str) -> None:
    run(LOST[engine])
    [finding] = found()
    assert finding.id == "database.schema"
    assert "users_search_insert of users" in finding.problem


def test_searched_column_that_is_not_indexed_is_found(database_url: str, engine: str) -> None:
    """Autogenerate compares nothing of the index."""

    def index(connection: Connection) -> None:
        search_index.drop_v1(connection.exec_driver_sql, engine, "users")
        search_index.create_v1(connection.exec_driver_sql, engine, "users", "email", "username")

    async def execute() -> None:
        async with (
            open_database(database_options()) as database,
            database.engine.begin() as connection,
        ):
            await connection.run_sync(index)

    asyncio.run(execute())
    [finding] = found()
    assert finding.id == "database.schema"
    assert "the column full_name in the full-text index of users" in finding.problem
    assert "with search_index.drop_v1 in it, then search_index.create_v1" in finding.remedy


def test_database_that_is_away_is_found() -> None:
    [finding] = found(DATABASE_URL=f"postgresql://carol:canary@127.0.0.1:{free_port()}/shop")
    assert finding.id == "database.unreachable"
    assert "Connection refused" in finding.problem
    assert "canary" not in str(finding)


def test_too_many_connections_are_found(database_url: str, engine: str) -> None:
    expected = ["database.connections"] if engine == "postgresql" else []
    assert [each.id for each in found(DATABASE_POOL_SIZE=100_000)] == expected


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_settings_that_do_less_than_expected_in_production_are_found(database_url: str) -> None:
    production = {"ENVIRONMENT": "production", "ALLOWED_HOSTS": "api.example.com"}
    several = {"WEB_CONCURRENCY": "4", "SECRET_KEY": "kZ8q-Jd02-mfPw71-xLcv93-bTyh55-Ru4e"}
    ids = [each.id for each in found(**production, **several)]
    assert ids == ["settings.mail", "settings.redis"]


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_route_that_no_request_reaches_is_found(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    router = APIRouter()

    @router.get("/{name}")
    async def read_by_name(name: str) -> str:
        return name

    @router.get("/newest")
    async def read_newest() -> str:
        return "newest"

    app = type(main.app)()
    app.include_router(router, prefix="/things")
    monkeypatch.setattr(main, "app", app)
    [finding] = find_all(settings, APP)
    assert finding.id == "routes.unreachable"
    assert finding.remedy == "include /things/newest before /things/{name}"


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_route_that_another_router_replaces_is_no_finding(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second version replaces some routes of the first; `routes --unused` shows them."""
    app = type(main.app)()
    for name in ("newer", "older"):
        router = APIRouter()

        @router.get("/{number}", name=name)
        async def read_thing(number: int) -> int:
            return number

        app.include_router(router, prefix="/things")
    monkeypatch.setattr(main, "app", app)
    assert find_all(settings, APP) == []
    assert call_command("routes", "--unused").returncode == 1


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_broken_code_is_found_beside_what_else_is_wrong(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error, expected in (
        (WrongDeclaration("CRUDOrder must state its policy"), "declarations.wrong"),
        (NameError("name 'Moneyy' is not defined"), "application.broken"),
    ):

        def fail(name: str, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr("timberframe.commands.loading.import_module", fail)
        findings = find_all(settings, APP)
        assert [each.id for each in findings] == [expected, "migrations.pending"]
        assert str(error) in findings[0].problem


SECRETS = {
    "DATABASE_URL": "postgresql://carol:canary@127.0.0.1:1/shop?sslpassword=canary",
    "REDIS_URL": "redis://:canary@localhost:6379/0",
    "SMTP_URL": "smtp://carol:canary@smtp.example.com:587",
    "SECRET_KEY": "canary" * 8,
}


def test_about_shows_settings_and_no_secret() -> None:
    for arguments in ((), ("--json",)):
        result = call_command("about", *arguments, **SECRETS)
        assert result.returncode == 0
        assert "canary" not in result.stdout + result.stderr
        for shown in ("redis://***@localhost:6379/0", "smtp://***@smtp.example.com:587"):
            assert shown in result.stdout
        assert "cannot connect to the database shop at 127.0.0.1:1" in result.stdout


def test_key_that_is_not_set_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SECRET_KEY", raising=False)
    url = SecretStr(f"sqlite:///{tmp_path}/shop.db")
    ids = [each.id for each in find_all(type(settings)(DATABASE_URL=url), APP)]
    assert ids == ["settings.secret_key", "migrations.pending"]
    monkeypatch.setenv("SECRET_KEY", "x" * 32)
    ids = [each.id for each in find_all(type(settings)(DATABASE_URL=url), APP)]
    assert ids == ["migrations.pending"]


class OwnSettings(Settings):
    HOOK_URL: SecretStr = SecretStr("https://hooks.example.com/canary")
    MAP_API_KEY: str = "canary"
    REPORTS_DSN: str = "https://canary@reports.example.com/7"
    OTHERS: tuple[str, ...] = ("https://carol:canary@example.com",)


def test_about_hides_secrets_of_the_applications_own(tmp_path: Path) -> None:
    OwnSettings.project = settings.project
    url = SecretStr(f"sqlite:///{tmp_path}/shop.db")
    shown = describe(OwnSettings(DATABASE_URL=url))["Settings"]
    assert "canary" not in str(shown)
    assert shown["REPORTS_DSN"] == "https://***@reports.example.com/7"


def test_about_shows_the_migration_of_the_database(database_url: str, engine: str) -> None:
    sections = json.loads(call_command("about", "--json").stdout)
    assert sections["database"]["engine"] == engine
    assert sections["database"]["migration"].endswith("(add webhooks)")
    assert sections["project"]["name"] == "specimen"
    assert call_command("about").stdout.startswith("Project\n  name ")
