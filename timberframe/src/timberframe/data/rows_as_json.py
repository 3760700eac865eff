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
from sqlalchemy.types import TypeEngine

# Joins JSON texts, which never contain it: the record separator of RFC 7464.
SEPARATOR = "\x1e"

_MAX_FIELDS = 60  # per call: SQLite's functions take 127 arguments, and a field is two

# SQL for SQLAlchemy's own types that SQLite's JSON functions do not know, or write differently.
_ON_SQLITE: dict[type, str] = {
    Uuid: " || '-' || ".join(
        f"substr({{0}}, {start}, {length})"
        for start, length in ((1, 8), (9, 4), (13, 4), (17, 4), (21, 12))
    ),
    Boolean: "json(CASE {0} WHEN 1 THEN 'true' WHEN 0 THEN 'false' ELSE 'null' END)",
}
# Types that both engines write as Pydantic does. Not floats: SQLite shows 15 digits only.
_AS_IT_IS = {Integer, SmallInteger, BigInteger, String, Date}


def spelling_of(type_: TypeEngine[Any], dialect: str) -> str | None:
    """The SQL with which a column of this type is written into JSON; None if it has none."""
    own: Mapping[str, str] | None = getattr(type_, "json_spelling", None)
    if own is not None:
        return own.get(dialect, "{0}")
    if dialect == "sqlite" and type(type_) in _ON_SQLITE:
        return _ON_SQLITE[type(type_)]
    return "{0}" if type(type_) in _AS_IT_IS | _ON_SQLITE.keys() else None


class RowJSON(FunctionElement[str]):
    """A JSON object of columns, as text; raise TypeError for a column type not supported here."""

    type = String()
    inherit_cache = True

    def __init__(self, columns: Mapping[str, Any]) -> None:
        for name, column in columns.items():
            if spelling_of(column.type, "sqlite") is None:
                why = f"json_spelling of {column.type!r} is not known; state it on the type"
                raise TypeError(f"cannot show {name}: {why}")
        # Literals: the names are then part of the statement and of its cache key.
        pairs: Any = ((literal_column(f"'{name}'"), column) for name, column in columns.items())
        super().__init__(*(part for pair in pairs for part in pair))


class JoinedJSON(FunctionElement[str]):
    """Aggregates JSON texts into one, in their order, with the separator between them."""

    type = String()
    inherit_cache = True


@compiles(RowJSON, "postgresql")
def _row_to_json(row: RowJSON, compiler: SQLCompiler, **options: Any) -> str:
    fields = _fields(row, compiler, options)
    columns = ", ".join(f'{value} AS "{name[1:-1]}"' for name, value in fields)
    # Built only from names and types in the code.
    return f"row_to_json((SELECT t FROM (SELECT {columns}) AS t))::text"  # noqa: S608


@compiles(RowJSON, "sqlite")
def _json_object(row: RowJSON, compiler: SQLCompiler, **options: Any) -> str:
    fields = _fields(row, compiler, options)
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
    row: RowJSON, compiler: SQLCompiler, options: Mapping[str, Any]
) -> list[tuple[str, str]]:
    clauses, dialect = list(row.clauses), compiler.dialect.name
    return [
        (
            compiler.process(name, **options),
            str(spelling_of(column.type, dialect)).format(compiler.process(column, **options)),
        )
        for name, column in zip(clauses[::2], clauses[1::2], strict=True)
    ]
