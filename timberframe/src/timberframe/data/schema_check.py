"""Check at the start of the server that the database has what the models need.

A migration that went wrong, or somebody at a console, may drop what no request would notice:
without a unique index two people can share a name, without a trigger search finds nothing new.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import (
    CheckConstraint,
    Connection,
    Dialect,
    ForeignKeyConstraint,
    MetaData,
    Table,
    UniqueConstraint,
    text,
)
from sqlalchemy.schema import CreateIndex

from timberframe.data.base import Base
from timberframe.data.session import Database
from timberframe.errors import CommandError

NOT_MADE = "no migration makes it, or it was dropped or changed afterwards"
_SHOWN = 3
_TRIGGERS = "triggers"
_SEARCH = "searched columns"
_IN_SEARCH_INDEX = "in the full-text index"
EVENTS = "events"
_IN_EVENTS = "in the events"
_RULES = (UniqueConstraint, CheckConstraint, ForeignKeyConstraint)

_WORD = re.compile(r"[a-z_]\w*")
# Casts and `ASC`, which PostgreSQL adds to a definition, and constants, which it rewrites.
_NO_WORDS = re.compile(
    r"'[^']*'|::(?:character varying|double precision|timestamp with(?:out)? time zone|\w+)|\basc\b"
)
_UPDATE_OF = re.compile(r"\bUPDATE OF (.+?) ON ")
_COMPARED = re.compile(
    r'\bnew\."?(\w+)"?\)?(?:::[\w ]+)? IS (?:NOT|DISTINCT FROM)\s+\(?old\b', re.IGNORECASE
)
_UNIQUE_IN_SQL = re.compile(r'CONSTRAINT\s+"?(\w+)"?\s+(UNIQUE\s*\([^)]*\))', re.IGNORECASE)

_SQLITE_OBJECTS = "SELECT tbl_name, name, coalesce(sql, '') FROM sqlite_master"
_SQLITE_COLUMNS = """
    SELECT made.name, info.name, "notnull", true
    FROM sqlite_master AS made, pragma_table_xinfo(made.name) AS info
    WHERE made.type = 'table' AND made.sql NOT LIKE 'CREATE VIRTUAL%'"""
_POSTGRESQL_COLUMNS = """
    SELECT relname, attname, attnotnull, atthasdef OR attidentity <> ''
    FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
    WHERE relkind IN ('r', 'p') AND attnum > 0 AND NOT attisdropped
    AND pg_table_is_visible(pg_class.oid)"""
_POSTGRESQL_RULES = """
    SELECT relname, rule, definition FROM pg_class JOIN (
        SELECT conrelid, conname, '' FROM pg_constraint
        UNION ALL SELECT indrelid, relname, pg_get_indexdef(indexrelid)
        FROM pg_index JOIN pg_class ON oid = indexrelid
        WHERE indisvalid
        UNION ALL SELECT tgrelid, tgname, pg_get_triggerdef(oid)
        FROM pg_trigger
        WHERE tgenabled <> 'D'
    ) AS rules (table_id, rule, definition) ON oid = table_id
    WHERE pg_table_is_visible(oid)"""


class SchemaIncomplete(CommandError):
    """The database lacks what the models need, although it has all migrations."""

    code = "schema_incomplete"


class _Column(NamedTuple):
    is_not_null: bool
    has_default: bool


@dataclass
class _Schema:
    """What a database has, by table and name.

    `rules` are constraints, indexes and triggers; `definitions` are the SQL of indexes, triggers
    and unique constraints.
    """

    columns: dict[tuple[str, str], _Column]
    rules: set[tuple[str, str]]
    definitions: dict[tuple[str, str], str]


def need_triggers(table: Any, names: Mapping[str, Iterable[str]]) -> None:
    """Register the triggers that a model or a crud relies on; `table` is its `__table__`."""
    for dialect, some in names.items():
        table.info.setdefault(_TRIGGERS, {}).setdefault(dialect, set()).update(some)


def need_search_index(table: Any, columns: Sequence[str]) -> None:
    """Register a search, of these columns in this order."""
    table.info.setdefault(_SEARCH, set()).add(tuple(columns))


def event_columns(trigger: str) -> list[str]:
    """The columns of events, from the SQL of the trigger that writes updates."""
    return _COMPARED.findall(trigger)


async def check_schema(database: Database) -> None:
    """Raise `SchemaIncomplete` naming what is missing, `Unavailable` if the database is away."""
    if missing := await read_missing(database):
        raise SchemaIncomplete(
            f"the database lacks {name_some(missing)}: {NOT_MADE}; to write a migration:"
            f" {to_write(missing, database.options.project.name)}"
        )


async def read_missing(database: Database) -> list[str]:
    """What `find_missing` describes."""
    async with database.reading() as db:
        connection = await db.connection()
        return await connection.run_sync(lambda sync: list(find_missing(sync)))


def name_some(missing: list[str]) -> str:
    more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
    return f"{', '.join(missing[:_SHOWN])}{more}"


def to_write(missing: list[str], project: str) -> str:
    """The command that writes a migration, and what it does not write."""
    if is_of_search_index(missing):
        return (
            '.venv/bin/alembic revision -m "what it does", with search_index.drop_v1 in it, then'
            " search_index.create_v1 with all columns of the search in their order"
        )
    return f'{project} migration "what it does"'


def is_of_search_index(missing: list[str]) -> bool:
    """Whether nothing else is missing; autogenerate does not compare it."""
    return all(_IN_SEARCH_INDEX in each for each in missing)


def find_missing(connection: Connection, metadata: MetaData = Base.metadata) -> Iterator[str]:
    """Describe tables, columns, constraints and triggers that are missing or no longer the same.

    Indexes that are not unique may be missing: they only make queries faster.
    """
    is_sqlite = connection.dialect.name == "sqlite"
    found = _read_sqlite(connection) if is_sqlite else _read_postgresql(connection)
    tables = {table for table, _ in found.columns}
    dialect = connection.dialect
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
        for name, keys, definition in _unique_rules_of(table, dialect):
            of_database = found.definitions.get((table.name, name))
            if of_database and _comparable(of_database, table) != _comparable(definition, table):
                yield f"{name} of {table.name} as UNIQUE ({keys})"
        for column in table.columns:
            has = found.columns.get((table.name, column.name))
            if has and not (has.is_not_null or column.nullable or column.primary_key):
                yield f"NOT NULL of {column.name} of {table.name}"
            if has and column is table.autoincrement_column and not has.has_default:
                yield f"the default of {column.name} of {table.name}"
        yield from _missing_in_search_index(table, found)
        yield from _missing_in_events(table, found)


def _missing_in_search_index(table: Table, found: _Schema) -> Iterator[str]:
    trigger = found.definitions.get((table.name, f"{table.name}_search_update"), "")
    if not (listed := _UPDATE_OF.search(trigger)):  # then it is a trigger that is missing
        return
    indexed = [name for name in re.findall(r"\w+", listed[1]) if name != "id"]
    for searched in sorted(table.info.get(_SEARCH, ())):
        if lacking := [name for name in searched if name not in indexed]:
            for name in lacking:
                yield f"the column {name} {_IN_SEARCH_INDEX} of {table.name}"
        elif indexed[: len(searched)] != [*searched]:  # ranks would be those of other columns
            yield f"the order {', '.join(searched)} {_IN_SEARCH_INDEX} of {table.name}"


def _missing_in_events(table: Table, found: _Schema) -> Iterator[str]:
    trigger = found.definitions.get((table.name, f"{table.name}_event_updated"), "")
    declared = table.info.get(EVENTS)
    if not (declared and trigger):  # without a trigger, that is what is missing
        return
    for name in sorted(set(declared.columns) - set(event_columns(trigger))):
        yield f"the column {name} {_IN_EVENTS} of {table.name}"


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


def _unique_rules_of(table: Table, dialect: Dialect) -> Iterator[tuple[str, str, str]]:
    """The name, the keys and the SQL of each unique constraint and index."""
    for constraint in table.constraints:
        if isinstance(constraint, UniqueConstraint):
            name = str(dialect.identifier_preparer.format_constraint(constraint))
            keys = ", ".join(column.name for column in constraint.columns)
            yield name, keys, f"UNIQUE ({keys})"
    for index in table.indexes:
        if index.unique:
            keys = ", ".join(map(str, index.expressions))
            yield str(index.name), keys, str(CreateIndex(index).compile(dialect=dialect))


def _comparable(definition: str, table: Table) -> str | None:
    """A unique rule reduced to its words, for comparison; None if it is not unique.

    PostgreSQL rewrites the condition of a partial index, so of that only the columns are compared.
    """
    head, _, body = definition.partition("(")
    if not re.search(r"\bunique\b", head, re.IGNORECASE):
        return None
    keys, *where = re.split(r"\bwhere\b", _NO_WORDS.sub("", body.lower()), maxsplit=1)
    columns = {column.name.lower() for column in table.columns}
    words = [*_WORD.findall(keys), *("where" for _ in where)]
    return " ".join([*words, *sorted(columns.intersection(_WORD.findall("".join(where))))])


def _read_sqlite(connection: Connection) -> _Schema:
    rules = set()
    definitions: dict[tuple[str, str], str] = {}
    for table, name, sql in connection.execute(text(_SQLITE_OBJECTS)):
        in_sql = re.findall(r'CONSTRAINT\s+"?(\w+)|\b(AUTOINCREMENT)\b', sql, re.IGNORECASE)
        rules |= {(table, name), *((table, each or other) for each, other in in_sql)}
        definitions |= {(table, each): found for each, found in _UNIQUE_IN_SQL.findall(sql)}
        if name != table:
            definitions[table, name] = sql
    return _Schema(_columns_of(connection, _SQLITE_COLUMNS), rules, definitions)


def _read_postgresql(connection: Connection) -> _Schema:
    rules = connection.execute(text(_POSTGRESQL_RULES)).all()
    definitions = {(table, rule): sql for table, rule, sql in rules if sql}
    columns = _columns_of(connection, _POSTGRESQL_COLUMNS)
    return _Schema(columns, {(table, rule) for table, rule, _ in rules}, definitions)


def _columns_of(connection: Connection, query: str) -> dict[tuple[str, str], _Column]:
    rows = connection.execute(text(query))
    return {(table, name): _Column(*has) for table, name, *has in rows}
