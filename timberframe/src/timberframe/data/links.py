"""Lists of ids in a row: triggers keep a table of links, whose foreign keys check each id.

A row has the ids itself, so that its JSON is made from its own columns. The table of links serves
filters, and refuses an id of a row that is gone. It is kept by triggers, so that no write path can
bypass it.

Migrations call `create_v1` and `drop_v1`, which must never change: a new way becomes a `_v2`.
"""

from collections.abc import Callable
from typing import Any

from sqlalchemy import Column, ForeignKey, FromClause, Table
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from timberframe.data.column_types import BigInt
from timberframe.data.schema_check import need_triggers

_LISTED = "listed"


def link_table(
    name: str,
    ids: InstrumentedAttribute[list[int]],
    *,
    row: str,
    listed: str,
    refers_to: InstrumentedAttribute[int],
) -> Table:
    """The table of links of an `IdList`: `row` and `listed` name its columns.

    `refers_to` is the id of the model whose rows are listed.
    """
    column, target = _column_of(ids), _column_of(refers_to)
    column.info[_LISTED] = target
    table: Table = column.table
    # Rows of one owner are deleted in the order of the tables: what lists others goes first.
    table.add_is_dependent_on(target.table)
    need_triggers(table, triggers_of(table.name, column.name))
    by_row = ForeignKey(table.c.id, ondelete="CASCADE")
    return Table(
        name,
        table.metadata,
        Column(listed, BigInt, ForeignKey(target), primary_key=True, autoincrement=False),
        Column(row, BigInt, by_row, primary_key=True, autoincrement=False, index=True),
        sqlite_with_rowid=False,
    )


def referred(column: Column[Any]) -> list[Column[Any]]:
    """The columns that it refers to, by foreign keys or as a list of ids."""
    if (target := column.info.get(_LISTED)) is not None:
        return [target]
    return [key.column for key in column.foreign_keys]


class ListedIds(FunctionElement[Any]):
    """The ids in an `IdList`, a row each."""

    inherit_cache = True

    def rows(self) -> FromClause:
        return self.table_valued("value")


@compiles(ListedIds, "postgresql")
def _json_array_elements(ids: ListedIds, compiler: SQLCompiler, **options: Any) -> str:
    return f"json_array_elements_text(({compiler.process(ids.clauses, **options)})::json)"


@compiles(ListedIds, "sqlite")
def _json_each(ids: ListedIds, compiler: SQLCompiler, **options: Any) -> str:
    return f"json_each({compiler.process(ids.clauses, **options)})"


def triggers_of(table: str, ids: str) -> dict[str, list[str]]:
    """The triggers that `create_v1` creates, by dialect."""
    events = {"sqlite": ("inserted", "updated"), "postgresql": ("inserted", "updated", "deleted")}
    return {
        dialect: [f"{table}_{ids}_{event}" for event in some] for dialect, some in events.items()
    }


def create_v1(
    execute: Callable[[str], object],
    dialect: str,
    table: str,
    ids: str,
    links: str,
    row: str,
    listed: str,
) -> None:
    """Keep in the table `links`, with columns `row` and `listed`, what the column `ids` lists."""
    names = {"name": f"{table}_{ids}", "table": table, "ids": ids}
    names |= {"links": links, "row": row, "listed": listed}
    for statement in _SQLITE if dialect == "sqlite" else _POSTGRESQL:
        execute(statement.format(**names))


def drop_v1(execute: Callable[[str], object], dialect: str, table: str, ids: str) -> None:
    on = "" if dialect == "sqlite" else f" ON {table}"
    for name in triggers_of(table, ids)[dialect]:
        execute(f"DROP TRIGGER {name}{on}")
    if dialect == "postgresql":
        execute(f"DROP FUNCTION {table}_{ids}_linked()")


def _column_of(attribute: InstrumentedAttribute[Any]) -> Column[Any]:
    column: Column[Any] = attribute.property.columns[0]
    return column


# The names stand in the code of models and migrations, never in a request.
_ADD = """INSERT INTO {links} ({row}, {listed})
    SELECT new.id, value FROM json_each(new.{ids});"""
_REMOVE = "DELETE FROM {links} WHERE {row} = old.id;"
_SQLITE = (
    f"""CREATE TRIGGER {{name}}_inserted AFTER INSERT ON {{table}}
        WHEN new.{{ids}} <> '[]' BEGIN {_ADD} END""",
    f"""CREATE TRIGGER {{name}}_updated AFTER UPDATE OF {{ids}} ON {{table}}
        WHEN new.{{ids}} <> old.{{ids}} BEGIN {_REMOVE} {_ADD} END""",
)
_POSTGRESQL = (
    """CREATE FUNCTION {name}_linked() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP <> 'INSERT' THEN
            DELETE FROM {links} WHERE {row} = old.id;
        END IF;
        IF TG_OP <> 'DELETE' THEN
            INSERT INTO {links} ({row}, {listed})
                SELECT new.id, id::bigint FROM json_array_elements_text(new.{ids}::json) AS id;
        END IF;
        RETURN old;
    END $$""",
    """CREATE TRIGGER {name}_inserted AFTER INSERT ON {table} FOR EACH ROW
        WHEN (new.{ids} <> '[]') EXECUTE FUNCTION {name}_linked()""",
    """CREATE TRIGGER {name}_updated AFTER UPDATE OF {ids} ON {table} FOR EACH ROW
        WHEN (new.{ids} <> old.{ids}) EXECUTE FUNCTION {name}_linked()""",
    # Before the row: when a user is deleted with all that they own, PostgreSQL asks who refers to
    # the listed rows before a cascade of the second level would have removed the links.
    """CREATE TRIGGER {name}_deleted BEFORE DELETE ON {table} FOR EACH ROW
        WHEN (old.{ids} <> '[]') EXECUTE FUNCTION {name}_linked()""",
)
