"""Values for the template of the migration, which creates the table that the model describes."""

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from timberframe.generator.layout import block, join, tuple_of
from timberframe.generator.spec import ResourceSpec


@dataclass(frozen=True)
class Stamp:
    """The values that differ in each migration; only its file records them."""

    revision: str
    down_revision: str | None
    made_at: datetime


def migration_of(spec: ResourceSpec, stamp: Stamp, command: str) -> dict[str, str]:
    many = spec.names.many
    table = list(_migration_table(spec))
    columns = [index.column for index in indexed(spec)]
    quoted = [f'"{column}"' for column in columns]
    create_indexes = [
        f"for column in {tuple_of(quoted)}:",
        f'    op.create_index(op.f(f"ix_{many}_{{column}}_id"), "{many}", [column, "id"])',
    ]
    if len(columns) == 1:
        name = f'op.f("ix_{many}_{columns[0]}_id")'
        create_indexes = [f'op.create_index({name}, "{many}", ["{columns[0]}", "id"])']
    down = f'"{stamp.down_revision}"' if stamp.down_revision else "None"
    has_texts = any("TEXT" in line for line in table)
    text = 'TEXT = sa.String().with_variant(sa.String(collation="C"), "postgresql")'
    return {
        "command": textwrap.fill(
            " ".join((command, *spec.arguments)),
            width=88,
            subsequent_indent="    ",
            break_on_hyphens=False,
            break_long_words=False,
        ),
        "revision": stamp.revision,
        "down_revision": down,
        "text_type": text if has_texts else "",
        "table": block(table, 8),
        "create_indexes": block(create_indexes),
        "create_search": block(_search(spec, "create")),
        "drop_search": block(_search(spec, "drop")),
    }


def _search(spec: ResourceSpec, verb: str) -> Iterator[str]:
    fields = [f'"{field.column}"' for field in spec.fields if field.is_searched]
    if fields:
        table = join(f'"{spec.names.many}"', *(fields if verb == "create" else ()))
        yield "connection = op.get_bind()"
        yield "execute, dialect = connection.exec_driver_sql, connection.dialect.name"
        yield f"search_index.{verb}_v1(execute, dialect, {table})"


def _migration_table(spec: ResourceSpec) -> Iterator[str]:
    many = spec.names.many
    yield 'sa.Column("id", ID, nullable=False),'
    for field in spec.fields:
        yield f'sa.Column("{field.column}", {field.kind.migration}, nullable={field.is_nullable}),'
    if spec.has_owner:
        yield 'sa.Column("owner_id", ID, nullable=False),'
    moment, now = "sa.DateTime(timezone=True)", "server_default=sa.func.now()"
    for name in ("created_at", "updated_at"):
        yield f'sa.Column("{name}", {moment}, {now}, nullable=False),'
    yield 'sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),'
    for field in spec.fields:
        if field.kind.column == "Money":
            rule = f'"{field.column} BETWEEN 0 AND 999999999999"'
            yield f'sa.CheckConstraint({rule}, name=op.f("ck_{many}_{field.name}")),'
    if spec.has_owner:
        if spec.references:
            yield "# First: PostgreSQL removes what a user owns before it asks who refers to them."
        yield _foreign_key(many, "owner_id", "users", ', ondelete="CASCADE"')
    for field in spec.fields:
        if field.refers_to:
            yield _foreign_key(many, field.column, field.refers_to.many)
    yield f'sa.PrimaryKeyConstraint("id", name=op.f("pk_{many}")),'
    for field in spec.unique_fields:
        name = f'name=op.f("uq_{many}_{field.column}")'
        yield f'sa.UniqueConstraint("{field.column}", {name}),'


def _foreign_key(table: str, column: str, target: str, ondelete: str = "") -> str:
    name = f'name=op.f("fk_{table}_{column}_{target}")'
    return f'sa.ForeignKeyConstraint(["{column}"], ["{target}.id"], {name}{ondelete}),'


@dataclass(frozen=True)
class _Indexed:
    name: str
    column: str


def indexed(spec: ResourceSpec) -> list[_Indexed]:
    """The columns indexed together with the id: orders, fields with `:index`, references."""
    found = [
        _Indexed(field.name, field.column)
        for field in spec.fields
        if not field.is_unique and (field.is_sortable or field.is_indexed or field.refers_to)
    ]
    own = ["owner_id"] if spec.has_owner else []
    return [*found, *(_Indexed(name, name) for name in (*own, "created_at", "updated_at"))]


def identifiers(spec: ResourceSpec) -> Iterator[str]:
    """The names of its indexes and constraints; those of tables and columns are shorter."""
    many = spec.names.many
    yield from (f"ix_{many}_{index.column}_id" for index in indexed(spec))
    for field in spec.references:
        if field.refers_to:
            yield f"fk_{many}_{field.column}_{field.refers_to.many}"
    yield from (f"uq_{many}_{field.column}" for field in spec.unique_fields)
    yield from (f"ck_{many}_{field.name}" for field in spec.fields)
