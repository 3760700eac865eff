"""A table that a migration has renamed is as if it had been created under its new name."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from alembic.util import CommandError
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import IntegrityError

from timberframe.data.session import open_database
from timberframe.testing import database_options

Migrate = Callable[[str], None]

# `orders_notes` and `web_orders` have names that begin and end as those of `orders` do.
CREATE = """
op.create_table("web_orders", sa.Column("id", sa.Integer(), primary_key=True))
op.create_table(
    "{table}",
    sa.Column("id", sa.Integer(), nullable=False),
    sa.Column("number", sa.String(), nullable=False),
    sa.Column("amount_cents", sa.BigInteger(), server_default="0", nullable=False),
    sa.Column("parent_id", sa.Integer()),
    sa.Column("web_id", sa.Integer()),
    sa.CheckConstraint("amount_cents >= 0", name=op.f("ck_{table}_amount")),
    sa.ForeignKeyConstraint(
        ["parent_id"], ["{table}.id"], name=op.f("fk_{table}_parent_id_{table}"), ondelete="CASCADE"
    ),
    sa.ForeignKeyConstraint(
        ["web_id"], ["web_orders.id"], name=op.f("fk_{table}_web_id_web_orders")
    ),
    sa.PrimaryKeyConstraint("id", name=op.f("pk_{table}")),
    sa.UniqueConstraint("number", name=op.f("uq_{table}_number")),
    sqlite_autoincrement=True,
)
op.create_index(op.f("ix_{table}_amount_cents_id"), "{table}", ["amount_cents", "id"])
op.create_index("uq_{table}_lower", "{table}", [sa.text("lower(number)")], unique=True)
op.create_index("latest", "{table}", ["id"])
op.create_table(
    "orders_notes",
    sa.Column("id", sa.Integer(), nullable=False),
    sa.Column("order_id", sa.Integer(), nullable=False),
    sa.ForeignKeyConstraint(
        ["order_id"], ["{table}.id"], name=op.f("fk_orders_notes_order_id_{table}")
    ),
    sa.PrimaryKeyConstraint("id", name=op.f("pk_orders_notes")),
    sqlite_autoincrement=True,
)
op.create_index(op.f("ix_orders_notes_order_id_id"), "orders_notes", ["order_id", "id"])
"""
DROP = """
for table in ("orders_notes", "{table}", "web_orders"):
    op.drop_table(table)
"""
RENAME = """
from timberframe.data.table_renames import rename_table_v1
rename_table_v1("{}", "{}")
"""
RECORD = """
from timberframe.data import events
events.create_v1(op.get_bind(), "orders", "order", "id", "number")
"""
ROWS = """
INSERT INTO web_orders VALUES (5);
INSERT INTO orders (number, web_id) VALUES ('N-1', 5);
INSERT INTO orders (number, parent_id) VALUES ('N-2', 1), ('N-3', 2);
INSERT INTO orders_notes (order_id) VALUES (2);
DELETE FROM orders WHERE id = 3
"""

NAMES = {
    "sqlite": "SELECT name FROM sqlite_master UNION ALL SELECT name FROM sqlite_sequence",
    "postgresql": """
        SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace
        UNION ALL SELECT conname FROM pg_constraint
        UNION ALL SELECT column_default FROM information_schema.columns
        WHERE table_schema = 'public' AND column_default IS NOT NULL""",
}


def in_database(function: Callable[[Connection], Any]) -> Any:
    async def run() -> Any:
        async with open_database(database_options()) as database, database.transaction() as db:
            return await (await db.connection()).run_sync(function)

    return asyncio.run(run())


def schema_of(*tables: str) -> Any:
    """The columns, keys, constraints and indexes of the tables, and all names in the database."""

    def read(connection: Connection) -> Any:
        has = inspect(connection)
        found = {
            table: [
                [column["name"] for column in has.get_columns(table)],
                has.get_pk_constraint(table),
                *(
                    sorted(map(str, read_some(table)))
                    for read_some in (
                        has.get_unique_constraints,
                        has.get_check_constraints,
                        has.get_foreign_keys,
                        has.get_indexes,
                    )
                ),
            ]
            for table in tables
        }
        names = connection.scalars(text(NAMES[connection.dialect.name])).all()
        return found, sorted(names)

    return in_database(read)


def run(statements: str) -> list[Any]:
    """The rows of the last statement."""

    def execute(connection: Connection) -> list[Any]:
        *others, last = statements.split(";")
        for statement in others:
            connection.exec_driver_sql(statement)
        result = connection.exec_driver_sql(last)
        return [tuple(row) for row in result] if result.returns_rows else []

    rows: list[Any] = in_database(execute)
    return rows


@pytest.mark.filterwarnings("ignore:.*expression-based index")
def test_renamed_table_is_as_if_created_under_the_new_name(migrate: Migrate) -> None:
    migrate(CREATE.format(table="purchases"))
    run(ROWS.replace("INTO orders ", "INTO purchases ").replace("FROM orders ", "FROM purchases "))
    expected = schema_of("purchases", "orders_notes", "web_orders")
    migrate(DROP.format(table="purchases"))
    migrate(CREATE.format(table="orders"))
    run(ROWS)
    before = schema_of("orders", "orders_notes", "web_orders")
    assert str(before) != str(expected)
    migrate(RENAME.format("orders", "purchases"))
    assert schema_of("purchases", "orders_notes", "web_orders") == expected
    migrate(RENAME.format("purchases", "orders"))
    assert schema_of("orders", "orders_notes", "web_orders") == before


def test_rows_and_what_holds_of_them_stay(migrate: Migrate) -> None:
    migrate(CREATE.format(table="orders"))
    run(ROWS)
    migrate(RENAME.format("orders", "purchases"))
    assert run("SELECT id, number, parent_id, web_id FROM purchases ORDER BY id") == [
        (1, "N-1", None, 5),
        (2, "N-2", 1, None),
    ]
    assert run("SELECT id, order_id FROM orders_notes") == [(1, 2)]
    for refused in (
        "INSERT INTO purchases (number) VALUES ('N-1')",
        "INSERT INTO purchases (number) VALUES ('n-1')",
        "INSERT INTO purchases (number, amount_cents) VALUES ('N-9', -1)",
        "INSERT INTO purchases (number, web_id) VALUES ('N-9', 9)",
        "INSERT INTO orders_notes (order_id) VALUES (9)",
        "DELETE FROM purchases WHERE id = 2",
    ):
        with pytest.raises(IntegrityError):
            run(refused)
    run("DELETE FROM orders_notes; DELETE FROM purchases WHERE id = 1")
    assert run("SELECT id FROM purchases") == []  # by the cascade
    # The id of the row that was deleted before the rename is not given out again.
    run("INSERT INTO purchases (number) VALUES ('N-4')")
    ((created,),) = run("SELECT id FROM purchases")
    assert created > 3


def test_table_with_a_search_index_is_refused(migrate: Migrate) -> None:
    """Its triggers and functions name the table."""
    with pytest.raises(CommandError, match=r'search_index\.drop_v1\(…, "users"\) before'):
        migrate(RENAME.format("users", "people"))
    assert run("SELECT count(*) FROM users") == [(3,)]


def test_table_whose_events_are_recorded_is_refused(migrate: Migrate) -> None:
    migrate(CREATE.format(table="orders"))
    migrate(RECORD)
    with pytest.raises(CommandError, match=r'events\.drop_v1\(…, "orders"\) before the rename and'):
        migrate(RENAME.format("orders", "purchases"))
    assert run("SELECT count(*) FROM orders") == [(0,)]


def test_name_that_would_be_too_long_is_refused(migrate: Migrate) -> None:
    migrate(CREATE.format(table="orders"))
    with pytest.raises(CommandError, match="would be longer than 63 characters"):
        migrate(RENAME.format("orders", "purchases_" * 5))
    assert run("SELECT count(*) FROM orders") == [(0,)]
