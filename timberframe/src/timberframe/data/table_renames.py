"""Rename a table in a migration, with all that is named after it.

Migrations call `rename_table_v1`, which must never change: a new way becomes a `_v2`.
"""

import re
from collections.abc import Sequence
from functools import partial
from typing import Any

from alembic import op
from alembic.util import CommandError
from sqlalchemy import Connection, ForeignKeyConstraint, Table, inspect, text
from sqlalchemy.sql.elements import conv

from timberframe.data.events import read_recorded
from timberframe.data.table_copies import LosslessSQLiteImpl

_SQLITE_INDEXES = """
    SELECT name, sql FROM sqlite_master
    WHERE type = 'index' AND tbl_name = :table AND sql IS NOT NULL"""
_SQLITE_REFERRING = """
    SELECT DISTINCT made.name FROM sqlite_master AS made, pragma_foreign_key_list(made.name) AS key
    WHERE made.type = 'table' AND made.sql NOT LIKE 'CREATE VIRTUAL%'
    AND key."table" = :table AND made.name <> :table ORDER BY made.name"""

_POSTGRESQL_CONSTRAINTS = """
    SELECT conname, conrelid::regclass::text,
        conrelid = to_regclass(:table), confrelid = to_regclass(:table)
    FROM pg_constraint WHERE to_regclass(:table) IN (conrelid, confrelid) ORDER BY conname"""
_POSTGRESQL_INDEXES = """
    SELECT relname FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
    WHERE indrelid = to_regclass(:table) ORDER BY relname"""
_POSTGRESQL_SEQUENCES = """
    SELECT relname FROM pg_depend JOIN pg_class ON pg_class.oid = objid AND relkind = 'S'
    WHERE refobjid = to_regclass(:table) AND refobjsubid > 0 ORDER BY relname"""

_MAX_LENGTH = 63  # PostgreSQL cuts longer names off


def rename_table_v1(old: str, new: str) -> None:
    """Rename a table, its indexes and constraints, and the foreign keys that refer to it.

    Names that do not follow the convention of `Base` stay. SQLite copies the table and those that
    refer to it. A full-text index and the triggers of events are to be dropped before and created
    after; if they are still there, raise `CommandError`.
    """
    connection = op.get_bind()
    if inspect(connection).has_table(f"{old}_search_words"):
        raise CommandError(
            f"{old} has a full-text index, whose triggers name the table: call"
            f' search_index.drop_v1(…, "{old}") before the rename and'
            f' search_index.create_v1(…, "{new}", …) after it'
        )
    if old in read_recorded(connection):
        raise CommandError(
            f"the triggers that write the events of {old} name the table: call"
            f' events.drop_v1(…, "{old}") before the rename and'
            f' events.create_v1(…, "{new}", …) after it'
        )
    op.rename_table(old, new)
    implementation = op.get_context().impl
    if isinstance(implementation, LosslessSQLiteImpl):
        _rename_on_sqlite(connection, implementation, old, new)
    else:
        _rename_on_postgresql(connection, old, new)


def _new_name(old: str, new: str, name: str, *, is_own: bool, is_reference: bool) -> str:
    """The new name of an index or constraint of the table, or of a foreign key that refers to it.

    Sequences and constraints that PostgreSQL named itself begin with the name of the table.
    """
    if is_own:
        name = re.sub(rf"^((?:ix|uq|ck|fk|pk)_)?{old}(?=_|$)", rf"\g<1>{new}", name)
    if is_reference:
        name = re.sub(rf"^(fk_.+_){old}$", rf"\g<1>{new}", name)
    if len(name) > _MAX_LENGTH:
        raise CommandError(f"{name} would be longer than {_MAX_LENGTH} characters")
    return name


def _rename_on_sqlite(
    connection: Connection, implementation: LosslessSQLiteImpl, old: str, new: str
) -> None:
    for name, statement in connection.execute(text(_SQLITE_INDEXES), {"table": new}).all():
        renamed = _new_name(old, new, name, is_own=True, is_reference=False)
        if renamed != name:
            op.drop_index(name, new)
            # The index's own name is the first in the statement.
            connection.exec_driver_sql(re.sub(rf"\b{name}\b", renamed, statement, count=1))
    referring = connection.scalars(text(_SQLITE_REFERRING), {"table": new}).all()
    for table in (new, *referring):
        implementation.before_copy = partial(_rename_constraints, old, new, is_own=table == new)
        with op.batch_alter_table(table, recreate="always"):
            pass
    implementation.before_copy = None


def _rename_constraints(old: str, new: str, copy: Table, *, is_own: bool) -> None:
    for each in copy.constraints:
        if isinstance(each.name, str):
            is_reference = isinstance(each, ForeignKeyConstraint) and (
                each.elements[0].target_fullname.partition(".")[0] == new
            )
            # `conv`: the name is complete, the convention is not applied to it.
            each.name = conv(
                _new_name(old, new, each.name, is_own=is_own, is_reference=is_reference)
            )


def _rename_on_postgresql(connection: Connection, old: str, new: str) -> None:
    quote = connection.dialect.identifier_preparer.quote

    def rename(
        statement: str, name: str, *, is_own: bool = True, is_reference: bool = False
    ) -> None:
        renamed = _new_name(old, new, name, is_own=is_own, is_reference=is_reference)
        if renamed != name:
            connection.exec_driver_sql(statement.format(quote(name), quote(renamed)))

    def read(query: str) -> Sequence[Any]:
        return connection.execute(text(query), {"table": quote(new)}).all()

    for name, table, is_own, is_reference in read(_POSTGRESQL_CONSTRAINTS):
        statement = f"ALTER TABLE {table} RENAME CONSTRAINT {{}} TO {{}}"
        rename(statement, name, is_own=is_own, is_reference=bool(is_reference))
    for (name,) in read(_POSTGRESQL_INDEXES):  # those of constraints were renamed with these
        rename("ALTER INDEX {} RENAME TO {}", name)
    for (name,) in read(_POSTGRESQL_SEQUENCES):
        rename("ALTER SEQUENCE {} RENAME TO {}", name)
