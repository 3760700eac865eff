"""What a database lacks is named when the server starts."""

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncSession

from specimen.crud import product_crud, user_crud
from timberframe.data import events
from timberframe.data.schema_check import (
    SchemaIncomplete,
    check_schema,
    find_missing,
    name_some,
)
from timberframe.data.session import Database
from timberframe.search import index as search_index

assert product_crud.search  # the models alone do not say which tables have a search
assert user_crud.search

LACKING: dict[str, tuple[str, str]] = {
    "the table product_tags": ("DROP TABLE product_tags",) * 2,
    "the column full_name of users": (
        "DROP TRIGGER users_search_insert; DROP TRIGGER users_search_update; "
        "DROP TRIGGER users_event_created; DROP TRIGGER users_event_updated; "
        "DROP TRIGGER users_event_deleted; ALTER TABLE users DROP COLUMN full_name",
        "ALTER TABLE users DROP COLUMN full_name CASCADE",
    ),
    "uq_users_username of users": ("DROP INDEX uq_users_username",) * 2,
    "uq_users_email of users": (
        "ALTER TABLE users RENAME TO old; CREATE TABLE users AS SELECT * FROM old",
        "ALTER TABLE users DROP CONSTRAINT uq_users_email",
    ),
    "users_search_insert of users": (
        "DROP TRIGGER users_search_insert",
        "DROP TRIGGER users_search_insert ON users",
    ),
    "products_tags_updated of products": (
        "DROP TRIGGER products_tags_updated",
        "ALTER TABLE products DISABLE TRIGGER products_tags_updated",
    ),
    "products_event_restored of products": (
        "DROP TRIGGER products_event_restored",
        "DROP TRIGGER products_event_restored ON products",
    ),
}


NAME = "DROP INDEX uq_users_username; CREATE"
SKU = "DROP INDEX uq_products_sku; CREATE UNIQUE INDEX uq_products_sku ON products"
USERNAME = "uq_users_username of users as UNIQUE (lower(users.username))"
CHANGED: list[tuple[str, str]] = [
    (USERNAME, f"{NAME} INDEX uq_users_username ON users (lower(username))"),
    (USERNAME, f"{NAME} UNIQUE INDEX uq_users_username ON users (username)"),
    (USERNAME, f"{NAME} UNIQUE INDEX uq_users_username ON users (lower(username), id)"),
    (USERNAME, f"{NAME} UNIQUE INDEX uq_users_username ON users (lower(email))"),
    (USERNAME, f"{NAME} UNIQUE INDEX uq_users_username ON users (lower(username)) WHERE id > 9"),
    ("uq_products_sku of products as UNIQUE (products.sku)", f"{SKU} (sku)"),
    ("uq_products_sku of products", f"{SKU} (sku) WHERE is_active"),
]
CHANGED_ON_POSTGRESQL: list[tuple[str, str]] = [
    ("NOT NULL of email of users", "ALTER TABLE users ALTER email DROP NOT NULL"),
    ("the default of id of users", "ALTER TABLE users ALTER id DROP DEFAULT"),
    (
        "uq_users_email of users as UNIQUE (email)",
        "ALTER TABLE users DROP CONSTRAINT uq_users_email;"
        " CREATE INDEX uq_users_email ON users (email)",
    ),
]
CHANGED_ON_SQLITE: dict[str, tuple[str, str]] = {
    "NOT NULL of email of users": ("email VARCHAR NOT NULL", "email VARCHAR"),
    "uq_users_email of users as UNIQUE (email)": ("UNIQUE (email)", "UNIQUE (email, id)"),
}


async def run(db: AsyncSession, statements: str) -> None:
    if db.get_bind().dialect.name == "sqlite":
        await db.execute(text("PRAGMA legacy_alter_table = ON"))
    for statement in statements.split("; "):
        await db.execute(text(statement))


async def missing_after(database: Database, statements: str) -> list[str]:
    """What is missing once they have run; then they are undone."""
    async with database.transaction() as db:
        await run(db, statements)
        connection = await db.connection()
        missing = await connection.run_sync(lambda sync: list(find_missing(sync)))
        await db.rollback()
    return missing


async def test_database_as_the_migrations_made_it_lacks_nothing(database: Database) -> None:
    await check_schema(database)


async def test_what_is_missing_is_named(database: Database, engine: str) -> None:
    for lacking, (on_sqlite, on_postgresql) in LACKING.items():
        statements = on_sqlite if engine == "sqlite" else on_postgresql
        assert lacking in name_some(await missing_after(database, statements))


@pytest.mark.parametrize("engine", ["sqlite"])
async def test_missing_autoincrement_is_named(database: Database) -> None:
    statements = (
        "CREATE TABLE other AS SELECT * FROM stock_movements; DROP TABLE stock_movements;"
        " ALTER TABLE other RENAME TO stock_movements"
    )
    missing = name_some(await missing_after(database, statements))
    assert "AUTOINCREMENT of stock_movements" in missing


async def test_what_was_changed_under_its_name_is_named(database: Database, engine: str) -> None:
    for lacking, statements in CHANGED + CHANGED_ON_POSTGRESQL * (engine == "postgresql"):
        assert lacking in name_some(await missing_after(database, statements)), statements


@pytest.mark.parametrize("engine", ["sqlite"])
async def test_what_a_column_or_constraint_lost_on_sqlite_is_named(database: Database) -> None:
    async with database.reading() as db:
        sql = await db.scalar(text("SELECT sql FROM sqlite_master WHERE name = 'users'"))
    for lacking, (before, after) in CHANGED_ON_SQLITE.items():
        changed = str(sql).replace(before, after)
        assert changed != sql
        statements = f"ALTER TABLE users RENAME TO old; {changed}; DROP TABLE old"
        # Indexes and triggers go with the table: there are more than are told.
        assert lacking in await missing_after(database, statements)


NO_REASON = (
    f'{NAME}  unique INDEX uq_users_username ON "users" ( LOWER("username") )',
    f"{NAME} UNIQUE INDEX uq_users_username ON users (lower(username) ASC)",
    "DROP INDEX ix_products_name_id",
)


async def test_same_index_or_one_that_only_makes_queries_fast_is_no_reason(
    database: Database,
) -> None:
    for statements in NO_REASON:
        assert await missing_after(database, statements) == [], statements


async def index_users(database: Database, engine: str, *fields: str) -> None:
    def index(connection: Connection) -> None:
        search_index.drop_v1(connection.exec_driver_sql, engine, "users")
        search_index.create_v1(connection.exec_driver_sql, engine, "users", *fields)

    async with database.engine.begin() as connection:
        await connection.run_sync(index)


INDEXED: dict[tuple[str, ...], str] = {
    ("email", "username"): "the column full_name in the full-text index of users",
    ("full_name",): "the column email in the full-text index of users, the column username in",
    ("username", "email", "full_name"): (
        "the order email, username, full_name in the full-text index of users"
    ),
}


async def test_searched_column_that_is_not_indexed_is_named(
    database: Database, engine: str
) -> None:
    for indexed, lacking in INDEXED.items():
        await index_users(database, engine, *indexed)
        with pytest.raises(SchemaIncomplete) as refused:
            await check_schema(database)
        assert refused.value.detail.startswith(f"the database lacks {lacking}")
        assert refused.value.detail.endswith(
            'to write a migration: .venv/bin/alembic revision -m "what it does", with'
            " search_index.drop_v1 in it, then search_index.create_v1 with all columns of the"
            " search in their order"
        )


async def test_index_of_more_columns_than_are_searched_is_no_reason(
    database: Database, engine: str
) -> None:
    await index_users(database, engine, "email", "username", "full_name", "hashed_password")
    await check_schema(database)


RECORDED: dict[tuple[str, ...], str] = {
    ("id", "email", "username", "is_active", "created_at", "updated_at"): "full_name",
    ("updated_at",): "created_at in the events of users, the column email",
}


async def test_column_that_events_lack_is_named(database: Database) -> None:
    def record(connection: Connection, columns: tuple[str, ...]) -> None:
        events.drop_v1(connection, "users")
        events.create_v1(connection, "users", "user", *columns)

    for recorded, lacking in RECORDED.items():
        async with database.engine.begin() as connection:
            await connection.run_sync(record, recorded)
        with pytest.raises(SchemaIncomplete) as refused:
            await check_schema(database)
        told = refused.value.detail
        assert f"lacks the column {lacking} in the events of users" in told
        assert told.endswith('to write a migration: specimen migration "what it does"')
