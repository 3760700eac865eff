"""Whether a database has what the models need: looked at once, when the server starts.

A migration that went wrong, or somebody at a console, takes away what no request would miss:
without a unique index two people share a name, without a trigger search finds nothing new.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    Connection,
    ForeignKeyConstraint,
    MetaData,
    Table,
    UniqueConstraint,
    text,
)

from app.core.errors import AppError
from app.db.base import Base
from app.db.session import Database

_SHOWN = 3
_TRIGGERS = "triggers"
_RULES = (UniqueConstraint, CheckConstraint, ForeignKeyConstraint)

_SQLITE_OBJECTS = "SELECT tbl_name, name, coalesce(sql, '') FROM sqlite_master"
_SQLITE_COLUMNS = """
    SELECT made.name, info.name FROM sqlite_master AS made, pragma_table_xinfo(made.name) AS info
    WHERE made.type = 'table' AND made.sql NOT LIKE 'CREATE VIRTUAL%'"""
_POSTGRESQL_COLUMNS = """
    SELECT relname, attname FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
    WHERE relkind IN ('r', 'p') AND attnum > 0 AND NOT attisdropped
    AND pg_table_is_visible(pg_class.oid)"""
_POSTGRESQL_RULES = """
    SELECT relname, rule FROM pg_class JOIN (
        SELECT conrelid, conname FROM pg_constraint
        UNION ALL SELECT indrelid, relname FROM pg_index JOIN pg_class ON oid = indexrelid
        WHERE indisvalid
        UNION ALL SELECT tgrelid, tgname FROM pg_trigger WHERE tgenabled <> 'D'
    ) AS rules (table_id, rule) ON oid = table_id
    WHERE pg_table_is_visible(oid)"""


class SchemaIncomplete(AppError):
    """The database lacks what the models need, although it has all migrations."""

    code = "schema_incomplete"


@dataclass
class _Schema:
    """What a database has: columns and the names of rules, each with its table."""

    columns: set[tuple[str, str]]
    rules: set[tuple[str, str]]


def need_triggers(table: Any, names: Mapping[str, Iterable[str]]) -> None:
    """Note what a model or a crud relies on, by dialect; `table` is a model's `__table__`."""
    for dialect, some in names.items():
        table.info.setdefault(_TRIGGERS, {}).setdefault(dialect, set()).update(some)


async def check_schema(database: Database) -> None:
    """Raise `SchemaIncomplete` naming what is missing, `Unavailable` if the database is away."""
    async with database.reading() as db:
        connection = await db.connection()
        missing = await connection.run_sync(lambda sync: list(find_missing(sync)))
    if missing:
        raise SchemaIncomplete(
            f"the database lacks {name_some(missing)}, which its migrations made:"
            " it was changed since"
        )


def name_some(missing: list[str]) -> str:
    more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
    return f"{', '.join(missing[:_SHOWN])}{more}"


def find_missing(connection: Connection, metadata: MetaData = Base.metadata) -> Iterator[str]:
    """Tables, columns, rules and triggers; an index that only makes queries fast may be away."""
    is_sqlite = connection.dialect.name == "sqlite"
    found = _read_sqlite(connection) if is_sqlite else _read_postgresql(connection)
    tables = {table for table, _ in found.columns}
    for table in metadata.sorted_tables:
        if table.name not in tables:
            yield f"the table {table.name}"
            continue
        for column in table.columns:
            if (table.name, column.name) not in found.columns:
                yield f"the column {column.name} of {table.name}"
        for rule in _rules_of(table, connection):
            if (table.name, rule) not in found.rules:
                yield f"{rule} of {table.name}"


def _rules_of(table: Table, connection: Connection) -> Iterator[str]:
    preparer = connection.dialect.identifier_preparer
    for constraint in table.constraints:
        if isinstance(constraint, _RULES):
            yield str(preparer.format_constraint(constraint))
    yield from (str(index.name) for index in table.indexes if index.unique)
    dialect = connection.dialect.name
    yield from sorted(table.info.get(_TRIGGERS, {}).get(dialect, ()))
    if dialect == "sqlite" and table.dialect_options["sqlite"]["autoincrement"]:
        yield "AUTOINCREMENT"


def _read_sqlite(connection: Connection) -> _Schema:
    rules = set()
    for table, name, sql in connection.execute(text(_SQLITE_OBJECTS)):
        in_sql = re.findall(r'CONSTRAINT\s+"?(\w+)|\b(AUTOINCREMENT)\b', sql, re.IGNORECASE)
        rules |= {(table, name), *((table, each or other) for each, other in in_sql)}
    columns = connection.execute(text(_SQLITE_COLUMNS))
    return _Schema({(table, column) for table, column in columns}, rules)


def _read_postgresql(connection: Connection) -> _Schema:
    columns = connection.execute(text(_POSTGRESQL_COLUMNS))
    rules = connection.execute(text(_POSTGRESQL_RULES))
    return _Schema({tuple(row) for row in columns}, {tuple(row) for row in rules})
