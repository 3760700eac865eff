"""A table that a migration copies, as SQLite needs it, keeps all that belongs to it."""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from alembic.ddl import impl
from alembic.ddl.sqlite import SQLiteImpl
from alembic.script import Script
from alembic.util import CommandError
from sqlalchemy import BigInteger, Column, DateTime, ForeignKey, MetaData, func, select, text
from sqlalchemy.exc import OperationalError

from specimen import schemas
from specimen.crud import user_crud
from timberframe.data.base import Base
from timberframe.data.session import Database, open_database
from timberframe.errors import AlreadyExists
from timberframe.testing import ADMIN, ALICE, CAST, database_options

Migrate = Callable[[str], None]
EVERY_TABLE = "\n".join(
    f"with op.batch_alter_table('{table.name}', recreate='always'): pass"
    for table in Base.metadata.sorted_tables
)


def objects() -> dict[str, object]:
    """All that SQLite has, by name; alike however it was spelt."""

    async def read() -> dict[str, object]:
        async with open_database(database_options()) as database, database.reading() as db:
            rows = await db.execute(text("SELECT type, name, sql FROM sqlite_master"))
            found: dict[str, object] = {}
            for kind, name, sql in rows.all():
                found[name] = re.sub(r'[\s"]', "", sql or "")
                if kind == "table":
                    infos = [
                        set((await db.execute(text(f"PRAGMA {info}({name})"))).all())
                        for info in ("table_xinfo", "table_list")
                    ]
                    found[name] = {*re.findall(r"AUTOINCREMENT|CONSTRAINT \w+", sql)}, infos
            return found

    return asyncio.run(read())


def definitions(engine: str) -> dict[str, str]:
    """The SQL of all that SQLite has, to the letter, by name."""
    if engine != "sqlite":
        return {}

    async def read() -> dict[str, str]:
        async with open_database(database_options()) as database, database.reading() as db:
            rows = await db.execute(text("SELECT name, sql FROM sqlite_master"))
            return {row.name: row.sql for row in rows.all()}

    return asyncio.run(read())


async def number_of_users() -> int:
    async with open_database(database_options()) as database, database.reading() as db:
        return int(await db.scalar(text("SELECT count(*) FROM users")) or 0)


def add_to_users(monkeypatch: pytest.MonkeyPatch, *columns: Column[Any]) -> None:
    """Add columns to the model that autogenerate compares, for one test."""
    metadata = MetaData(naming_convention=Base.metadata.naming_convention)
    for table in Base.metadata.tables.values():
        table.to_metadata(metadata)
    for column in columns:
        metadata.tables["users"].append_column(column)
    monkeypatch.setattr(Base, "metadata", metadata)


def autogenerate(config: Config) -> str:
    """The source of the migration."""
    script = command.revision(config, "change users", autogenerate=True)
    assert isinstance(script, Script)
    return Path(script.path).read_text()


async def sign_up(database: Database, name: str) -> int:
    user_in = schemas.UserCreate(email=f"{name}@example.org", username=name, password="Secret-123")
    return (await user_crud.create(database, obj_in=user_in, viewer=None)).id


def test_column_by_autogenerate_takes_nothing_away(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An account is deleted before: its id must not be given out again."""

    async def delete_last() -> None:
        async with open_database(database_options()) as database:
            last = await sign_up(database, "carol")
            assert last == ADMIN.id + 1
            async with database.transaction() as db:
                await db.execute(text("DELETE FROM users WHERE id = :id"), {"id": last})

    async def check() -> None:
        async with open_database(database_options()) as database:
            with pytest.raises(AlreadyExists):
                await sign_up(database, ALICE.name.upper())
            assert await sign_up(database, "dave") > ADMIN.id + 1
            async with database.reading() as db:
                hits = (await user_crud.search.resolve(db, "dave")).hits()
                assert len((await db.execute(select(hits))).all()) == 1

    asyncio.run(delete_last())
    column: Column[int] = Column("referrer_id", BigInteger, ForeignKey("users.id"))
    add_to_users(monkeypatch, column)
    command.revision(config, "add referrer of users", autogenerate=True)
    command.upgrade(config, "head")
    command.check(config)
    asyncio.run(check())


def test_columns_are_added_and_dropped_in_place(
    config: Config, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    before = definitions(engine)
    columns: list[Column[int]] = [
        Column("nullable", BigInteger),
        Column("indexed", BigInteger, index=True),
        Column("constant", BigInteger, nullable=False, server_default="0"),
    ]
    add_to_users(monkeypatch, *columns)
    lines = autogenerate(config)
    for column in columns:
        assert f"    op.add_column('users', sa.Column('{column.name}'," in lines
        assert f"    op.drop_column('users', '{column.name}')" in lines
    assert "batch" not in lines
    command.upgrade(config, "head")
    command.check(config)
    command.downgrade(config, "-1")
    assert definitions(engine) == before
    assert asyncio.run(number_of_users()) == len(CAST)
    command.upgrade(config, "head")
    command.check(config)


def test_what_sqlite_cannot_alter_is_altered_in_a_batch(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the test above: rows that exist cannot get a time in place."""
    add_to_users(monkeypatch, Column("seen_at", DateTime, server_default=func.now()))
    assert "with op.batch_alter_table('users'" in autogenerate(config)
    command.upgrade(config, "head")
    command.downgrade(config, "-1")
    assert asyncio.run(number_of_users()) == len(CAST)


def test_autogenerate_says_what_to_do_first(config: Config) -> None:
    command.downgrade(config, "-1")
    with pytest.raises(CommandError, match=r"not up to date\. First: alembic upgrade head$"):
        autogenerate(config)


@pytest.mark.parametrize("engine", ["sqlite"])
def test_copy_of_every_table_takes_nothing_away(migrate: Migrate) -> None:
    before = objects()
    migrate(EVERY_TABLE)
    assert objects() == before


@pytest.mark.parametrize("engine", ["sqlite"])
def test_alembic_alone_takes_things_away(migrate: Migrate, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control of the tests above."""
    before = objects()
    monkeypatch.setitem(impl._impls, "sqlite", SQLiteImpl)
    migrate("with op.batch_alter_table('users', recreate='always'): pass")
    lost = before.keys() - objects().keys()
    triggers = {f"users_search_{event}" for event in ("insert", "update", "delete")}
    triggers |= {f"users_event_{kind}" for kind in ("created", "updated", "deleted")}
    assert lost == triggers | {"uq_users_username"}


REFERRER = """op.execute('ALTER TABLE users ADD COLUMN referrer_id INTEGER'
    ' CONSTRAINT fk_users_referrer_id_users REFERENCES users (id)')
with op.batch_alter_table('users', recreate='always'): pass"""


@pytest.mark.parametrize("engine", ["sqlite"])
def test_foreign_key_of_a_copied_table_is_dropped_with_its_column(migrate: Migrate) -> None:
    before = objects()
    migrate(REFERRER)
    assert objects() != before
    migrate("op.drop_column('users', 'referrer_id')")
    assert objects() == before


@pytest.mark.parametrize("engine", ["sqlite"])
def test_alembic_alone_cannot_drop_it(migrate: Migrate, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control of the test above."""
    migrate(REFERRER)
    monkeypatch.setitem(impl._impls, "sqlite", SQLiteImpl)
    with pytest.raises(OperationalError, match="in foreign key definition"):
        migrate("op.drop_column('users', 'referrer_id')")


@pytest.mark.parametrize("engine", ["sqlite"])
def test_index_that_alembic_reads_as_another_is_kept(migrate: Migrate) -> None:
    migrate("op.execute('CREATE INDEX latest ON users (full_name COLLATE NOCASE DESC)')")
    before = objects()
    migrate("with op.batch_alter_table('users', recreate='always'): pass")
    assert objects() == before


@pytest.mark.parametrize("engine", ["sqlite"])
def test_index_that_the_migration_drops_stays_away(migrate: Migrate) -> None:
    migrate("op.execute('CREATE INDEX latest ON users (full_name DESC)')")
    before = objects()
    migrate(
        "with op.batch_alter_table('users', recreate='always') as batch_op:\n"
        "    batch_op.drop_index('ix_users_username_id')\n"
        "    batch_op.drop_index('latest')"
    )
    assert before.keys() - objects().keys() == {"ix_users_username_id", "latest"}


REFUSED = {
    "with op.batch_alter_table('users') as batch_op: batch_op.drop_column('full_name')": (
        r"copy of users .* trigger users_search_insert: no such column: new.full_name"
    ),
    "with op.batch_alter_table('users') as batch_op:\n"
    "    batch_op.alter_column('username', new_column_name='login')": (
        r"copy of users .* uq_users_username: .*username"
    ),
    "op.execute('CREATE TABLE words (word TEXT COLLATE NOCASE)')\n"
    "with op.batch_alter_table('words', recreate='always'): pass": "words: .* lose its COLLATE",
}


@pytest.mark.parametrize("engine", ["sqlite"])
@pytest.mark.parametrize("lines", REFUSED, ids=["column", "name", "collation"])
def test_copy_that_would_break_what_belongs_to_it_is_refused(migrate: Migrate, lines: str) -> None:
    before = objects()
    with pytest.raises(CommandError, match=REFUSED[lines]):
        migrate(lines)
    assert objects() == before
