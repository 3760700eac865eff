"""Migrations on SQLite: keep what Alembic would lose when it copies a table.

SQLite cannot alter most things in place: Alembic's batch mode creates a new table, copies the rows,
drops the old table and renames the new one. SQLite drops triggers and indexes with the old table,
and Alembic recreates only what it can reflect: no triggers, no indexes on expressions or with a
collation, no AUTOINCREMENT, not the highest id ever used. This module restores these, or refuses
the migration and says what would be lost. Importing it is enough: Alembic finds the class by
dialect.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from alembic import op
from alembic.ddl.sqlite import SQLiteImpl
from alembic.operations.batch import ApplyBatchImpl
from alembic.util import CommandError
from sqlalchemy import Column, Connection, Table, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.schema import CreateIndex, CreateTable, DDLElement

# Clauses of columns and constraints in SQLite that Alembic does not reflect.
_UNREADABLE = ("COLLATE", "ON CONFLICT")


@dataclass
class _Kept:
    """What is restored after a table has been copied."""

    statements: dict[str, str]  # by the name of the trigger or index
    highest_id: int | None  # that AUTOINCREMENT has given out


class LosslessSQLiteImpl(SQLiteImpl):
    """Alembic's operations on SQLite, with copies that lose nothing."""

    __dialect__ = "sqlite"

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._kept: dict[str, _Kept] = {}
        self.before_copy: Callable[[Table], None] | None = None

    def prep_table_for_batch(self, batch_impl: ApplyBatchImpl, table: Table) -> None:
        """Read what the table has, just before the new one is created."""
        connection, new_table, name = self.connection, batch_impl.new_table, str(table.name)
        if connection is None or new_table is None:
            return  # offline mode writes a script and copies nothing
        created_by = _statements(connection, "table", name)[name]
        highest_id = None
        if _count("AUTOINCREMENT", created_by):
            new_table.dialect_options["sqlite"]["autoincrement"] = True
            highest = text("SELECT seq FROM sqlite_sequence WHERE name = :name")
            highest_id = connection.scalar(highest, {"name": name})
        _name_references(new_table, name)
        if self.before_copy:
            self.before_copy(new_table)
        recreated_by = self._sql(CreateTable(new_table))
        for words in _UNREADABLE:
            if batch_impl.reflected and _count(words, created_by) > _count(words, recreated_by):
                raise CommandError(f"{name}: Alembic's copy of the table would lose its {words}")
        statements = self._lost_indexes(batch_impl, _statements(connection, "index", name))
        statements |= _statements(connection, "trigger", name)
        self._kept[name] = _Kept(statements, highest_id)
        # Triggers and views may name this table: without this, SQLite would refuse the rename while
        # no table has that name.
        connection.exec_driver_sql("PRAGMA legacy_alter_table = ON")

    def rename_table(
        self, old_table_name: str, new_table_name: str, schema: str | None = None
    ) -> None:
        super().rename_table(old_table_name, new_table_name, schema)
        if self.connection and (kept := self._kept.pop(new_table_name, None)):
            self.connection.exec_driver_sql("PRAGMA legacy_alter_table = OFF")
            _restore(self.connection, new_table_name, kept)

    def drop_column(
        self, table_name: str, column: Column[Any], schema: str | None = None, **options: Any
    ) -> None:
        """Drop a column in place, even one that was declared with its foreign key.

        A copy declares that with the table, and then SQLite drops the column only by another copy.
        """
        try:
            super().drop_column(table_name, column, schema=schema, **options)
        except OperationalError as failed:
            if "in foreign key definition" not in str(failed.orig):
                raise
            with op.batch_alter_table(table_name, recreate="always") as batch_op:
                batch_op.drop_column(str(column.name))

    def _lost_indexes(
        self, batch_impl: ApplyBatchImpl, statements: dict[str, str]
    ) -> dict[str, str]:
        """The indexes that Alembic would not recreate as they are; the others are left to it."""
        read = {str(index.name): index for index in batch_impl.table.indexes}
        lost = {}
        for name, statement in statements.items():
            index = read.get(name)
            if index is not None and _plain(self._sql(CreateIndex(index))) == _plain(statement):
                continue
            if index is None or batch_impl.indexes.pop(name, None) is not None:
                lost[name] = statement  # unless the migration drops it
        return lost

    def _sql(self, element: DDLElement) -> str:
        return str(element.compile(dialect=self.dialect))


def _name_references(new_table: Table, name: str) -> None:
    """Name foreign keys by `Base`'s convention: of those declared with a column, SQLAlchemy
    reflects no name.
    """
    for each in new_table.foreign_key_constraints:
        if each.name is None:
            referred = each.elements[0].target_fullname.partition(".")[0]
            each.name = f"fk_{name}_{each.column_keys[0]}_{referred}"


def _restore(connection: Connection, table: str, kept: _Kept) -> None:
    for name, statement in kept.statements.items():
        try:
            connection.exec_driver_sql(statement)
        except OperationalError as failed:
            raise CommandError(_refusal(table, f"{name}: {failed.orig}")) from None
    if kept.highest_id is not None:
        names = {"name": table, "highest": kept.highest_id}
        connection.execute(text("DELETE FROM sqlite_sequence WHERE name = :name"), names)
        connection.execute(text("INSERT INTO sqlite_sequence VALUES (:name, :highest)"), names)
    quote = connection.dialect.identifier_preparer.quote
    column = connection.exec_driver_sql(f"PRAGMA table_info({quote(table)})").all()[0].name
    try:
        # Renames nothing, but SQLite checks that all that triggers and views refer to exists.
        connection.exec_driver_sql(
            f"ALTER TABLE {quote(table)} RENAME COLUMN {quote(column)} TO {quote(column)}"
        )
    except OperationalError as failed:
        raise CommandError(_refusal(table, str(failed.orig))) from None


def _refusal(table: str, reason: str) -> str:
    return f"the copy of {table} does not fit what belongs to it: {reason}; drop that first"


def _statements(connection: Connection, kind: str, table: str) -> dict[str, str]:
    """The CREATE statements of the table, its indexes or its triggers, by name."""
    made_by = text(
        "SELECT name, sql FROM sqlite_master"
        " WHERE type = :kind AND tbl_name = :table AND sql IS NOT NULL"
    )
    rows = connection.execute(made_by, {"kind": kind, "table": table})
    return {row.name: row.sql for row in rows}


def _count(words: str, statement: str) -> int:
    pattern = words.replace(" ", r"\s+")
    return len(re.findall(rf"\b{pattern}\b", statement, re.IGNORECASE))


def _plain(statement: str) -> str:
    """Without the whitespace, quotes and case that make no difference."""
    return re.sub(r'[\s"]', "", statement).lower()
