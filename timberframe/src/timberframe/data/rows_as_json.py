"""Rows serialized to JSON by the database, byte for byte as Pydantic would."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Date,
    Integer,
    SmallInteger,
    String,
    Uuid,
    literal_column,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from timberframe.data.base import Document, FixedPoint, Money, StringList, UTCDateTime

# Joins JSON texts, which never contain it: the record separator of RFC 7464.
SEPARATOR = "\x1e"

_MAX_FIELDS = 60  # per call: SQLite's functions take 127 arguments, and a field is two

# SQL for types that the engine's JSON functions do not know, or write differently.
_ON_POSTGRESQL: dict[type, str] = {
    UTCDateTime: (
        "replace(to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US'), '.000000', '')"
        " || 'Z'"
    ),
    StringList: "{}::json",
    Money: "({0} / 100)::text || '.' || lpad(({0} % 100)::text, 2, '0')",
    FixedPoint: (
        "CASE WHEN {0} < 0 THEN '-' ELSE '' END"
        " || (abs({0}) / 1000000)::text || '.' || lpad((abs({0}) % 1000000)::text, 6, '0')"
    ),
}
# In RETURNING, SQLite 3.40 evaluates `NULL IS NOT NULL` as true; hence `abs({0}) >= 0`.
_ON_SQLITE: dict[type, str] = {
    UTCDateTime: "replace(replace({}, ' ', 'T'), '.000000', '') || 'Z'",
    Money: "CASE WHEN abs({0}) >= 0 THEN printf('%d.%02d', {0} / 100, {0} % 100) END",
    FixedPoint: (
        "CASE WHEN abs({0}) >= 0 THEN printf('%s%d.%06d', CASE WHEN {0} < 0 THEN '-' ELSE '' END,"
        " abs({0}) / 1000000, abs({0}) % 1000000) END"
    ),
    Uuid: " || '-' || ".join(
        f"substr({{0}}, {start}, {length})"
        for start, length in ((1, 8), (9, 4), (13, 4), (17, 4), (21, 12))
    ),
    Document: "json({})",
    StringList: "json({})",
    Boolean: "json(CASE {0} WHEN 1 THEN 'true' WHEN 0 THEN 'false' ELSE 'null' END)",
}
# Types that both engines write as Pydantic does. Not floats: SQLite shows 15 digits only.
_AS_IT_IS = {Integer, SmallInteger, BigInteger, String, Date}
_KNOWN = _AS_IT_IS | _ON_SQLITE.keys() | _ON_POSTGRESQL.keys()


class RowJSON(FunctionElement[str]):
    """A JSON object of columns, as text; raise TypeError for a column type not supported here."""

    type = String()
    inherit_cache = True

    def __init__(self, columns: Mapping[str, Any]) -> None:
        for name, column in columns.items():
            if type(column.type) not in _KNOWN:
                raise TypeError(f"{name}: rows_as_json.py has no spelling for {column.type!r}")
        # Literals: the names are then part of the statement and of its cache key.
        pairs: Any = ((literal_column(f"'{name}'"), column) for name, column in columns.items())
        super().__init__(*(part for pair in pairs for part in pair))


class JoinedJSON(FunctionElement[str]):
    """Aggregates JSON texts into one, in their order, with the separator between them."""

    type = String()
    inherit_cache = True


@compiles(RowJSON, "postgresql")
def _row_to_json(row: RowJSON, compiler: SQLCompiler, **options: Any) -> str:
    fields = _fields(row, compiler, _ON_POSTGRESQL, options)
    columns = ", ".join(f'{value} AS "{name[1:-1]}"' for name, value in fields)
    # Built only from names and types in the code.
    return f"row_to_json((SELECT t FROM (SELECT {columns}) AS t))::text"  # noqa: S608


@compiles(RowJSON, "sqlite")
def _json_object(row: RowJSON, compiler: SQLCompiler, **options: Any) -> str:
    fields = _fields(row, compiler, _ON_SQLITE, options)
    first = ", ".join(f"{name}, {value}" for name, value in fields[:_MAX_FIELDS])
    json_object = f"json_object({first})"
    for start in range(_MAX_FIELDS, len(fields), _MAX_FIELDS):
        some = fields[start : start + _MAX_FIELDS]
        added = ", ".join(f"'$.' || {name}, {value}" for name, value in some)
        json_object = f"json_insert({json_object}, {added})"
    return json_object


@compiles(JoinedJSON, "postgresql")
def _string_agg(joined: JoinedJSON, compiler: SQLCompiler, **options: Any) -> str:
    return f"string_agg({compiler.process(joined.clauses, **options)}, chr({ord(SEPARATOR)}))"


@compiles(JoinedJSON, "sqlite")
def _group_concat(joined: JoinedJSON, compiler: SQLCompiler, **options: Any) -> str:
    return f"group_concat({compiler.process(joined.clauses, **options)}, char({ord(SEPARATOR)}))"


def _fields(
    row: RowJSON, compiler: SQLCompiler, spellings: Mapping[Any, str], options: Mapping[str, Any]
) -> list[tuple[str, str]]:
    clauses = list(row.clauses)
    return [
        (
            compiler.process(name, **options),
            spellings.get(type(column.type), "{}").format(compiler.process(column, **options)),
        )
        for name, column in zip(clauses[::2], clauses[1::2], strict=True)
    ]
