"""`migration` and `migrate --pretend`, in a copy of the specimen's project."""

import asyncio
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, Integer, String, Table

from specimen.config import settings
from timberframe.commands.migration import pretend
from timberframe.data.base import Base
from timberframe.data.events import Declared, read_recorded
from timberframe.data.session import open_database
from timberframe.migrations import downgrade, upgrade
from timberframe.project import Project
from timberframe.testing import call_command, database_options

pytestmark = pytest.mark.seconds(4)


@pytest.fixture
def versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = settings.project.root
    shutil.copy(root / "pyproject.toml", tmp_path)
    shutil.copytree(root / "alembic", tmp_path / "alembic")
    monkeypatch.setattr(type(settings), "project", Project(tmp_path, "specimen"))
    return settings.project.migrations


@contextmanager
def changed(*columns: Column[Any], without: str | None = None) -> Iterator[None]:
    """The model of users, with other columns."""
    users = Base.metadata.tables["users"]
    kept = users.c[without] if without else None
    for each in columns:
        users.append_column(each)
    if kept is not None:
        users._columns.remove(kept)
    try:
        yield
    finally:
        for each in columns:
            users._columns.remove(each)
        if kept is not None:
            users.append_column(kept)


def test_new_column_is_written_and_formatted(database_url: str, versions: Path) -> None:
    before = set(versions.iterdir())
    with changed(Column("weight", Integer)):
        result = call_command("migration", "add weight")
    assert (result.returncode, result.stderr) == (0, "")
    [file] = set(versions.iterdir()) - before
    assert result.stdout.startswith(f"create  alembic/versions/{file.name}\n")
    assert "warning" not in result.stdout
    source = file.read_text()
    assert source.startswith('"""add weight"""\n')
    assert 'sa.Column("weight", sa.Integer(), nullable=True)' in source
    assert "'" not in source


def test_change_of_what_is_recorded_is_written(
    database_url: str, versions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = set(versions.iterdir())
    users, products = Base.metadata.tables["users"], Base.metadata.tables["products"]
    declared = users.info["events"]._replace(columns=("id", "email", "weight"))
    monkeypatch.setitem(users.info, "events", declared)
    monkeypatch.delitem(products.info, "events")
    kept = {
        dialect: {each for each in names if "_event_" not in each}
        for dialect, names in products.info["triggers"].items()
    }
    monkeypatch.setitem(products.info, "triggers", kept)
    with changed(Column("weight", Integer)):
        result = call_command("migration", "record weight")
        assert (result.returncode, result.stderr) == (0, "")
        [file] = set(versions.iterdir()) - before
        drop, create = 'events.drop_v1(op.get_bind(), "users")', "events.create_v1("
        up, down = file.read_text().partition("def downgrade")[::2]
        assert "from timberframe.data import events" in up
        assert 'events.drop_v1(op.get_bind(), "products")' in up
        assert up.index(drop) < up.index('"weight", sa.Integer()') < up.index(create)
        assert down.index(drop) < down.index('"weight"') < down.index(create)
        assert "is_soft_deletable=True" in down
        made = recorded()
        upgrade(database_options())
        assert recorded() == {"users": declared}
    downgrade(database_options(), "-1")
    assert recorded() == made


def recorded() -> dict[str, Declared]:
    async def read() -> dict[str, Declared]:
        async with open_database(database_options()) as database, database.reading() as db:
            return await (await db.connection()).run_sync(read_recorded)

    return asyncio.run(read())


def test_nothing_is_written_if_nothing_changed(database_url: str, versions: Path) -> None:
    before = set(versions.iterdir())
    result = call_command("migration", "add weight")
    said = "Nothing changed: the models and the database are alike\n"
    assert (result.returncode, result.stdout) == (0, said)
    assert set(versions.iterdir()) == before


def test_rename_and_missing_default_are_warned_of(database_url: str, versions: Path) -> None:
    with changed(Column("title", String, nullable=False), without="full_name"):
        result = call_command("migration", "rename full name")
    assert "warning  users: full_name is dropped and title added: if it was renamed" in (
        result.stdout
    )
    assert "warning  users: title is NOT NULL without a server_default" in result.stdout


def test_table_in_place_of_another_is_warned_of(database_url: str, versions: Path) -> None:
    table = Base.metadata.tables["stock_movements"]
    Base.metadata.remove(table)
    made = Table("movements", Base.metadata, Column("id", Integer, primary_key=True))
    try:
        result = call_command("migration", "rename movements")
    finally:
        Base.metadata.remove(made)
        Base.metadata._add_table(table.name, None, table)
    said = "the table stock_movements is dropped and movements created: if it was renamed"
    assert f"warning  {said}" in result.stdout


def test_message_must_be_a_phrase(database_url: str, versions: Path) -> None:
    result = call_command("migration", "weight")
    assert result.stderr == (
        'specimen: "weight": say what it does in two words or more, as "add weight"\n'
    )


def test_database_that_is_behind_is_told_to_migrate(
    empty_database_url: str, versions: Path
) -> None:
    result = call_command("migration", "add weight")
    assert result.returncode == 1
    pattern = r"specimen: the database lacks 5 migrations: .*; first: specimen migrate\n"
    assert re.fullmatch(pattern, result.stderr)


def test_pretended_migrations_are_shown_and_change_nothing(empty_database_url: str) -> None:
    for _ in range(2):
        result = call_command("migrate", "--pretend")
        assert result.returncode == 0
        heads = re.findall(r"^-- (\w+) \((.*)\)$", result.stdout, re.MULTILINE)
        assert [name for _, name in heads] == [
            "create users and products",
            "add stock movements",
            "add full text search",
            "add events",
            "add webhooks",
        ]
        assert "CREATE TABLE users (" in result.stdout
        assert "SELECT version_num" not in result.stdout
    assert call_command("migrate").stdout.startswith("Applied 5 migrations")
    assert call_command("migrate", "--pretend").stdout == "-- Up to date\n"
    assert pretend(database_options()) == []
