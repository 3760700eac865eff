"""Values for the template of the migration, which creates the table that the model describes."""

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from timberframe.generator.kinds import Default
from timberframe.generator.layout import block, join, tuple_of
from timberframe.generator.spec import Field, ResourceSpec

_ID = 'ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")'
_CASCADE = ', ondelete="CASCADE"'
_CONNECTION = (
    "connection = op.get_bind()",
    "execute, dialect = connection.exec_driver_sql, connection.dialect.name",
)
_TEXT = 'TEXT = sa.String().with_variant(sa.String(collation="C"), "postgresql")'


@dataclass(frozen=True)
class Stamp:
    """The values that differ in each migration; only its file records them."""

    revision: str
    down_revision: str | None
    made_at: datetime


def migration_of(spec: ResourceSpec, stamp: Stamp, call: str) -> dict[str, str]:
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
    return {
        **_head(stamp, call),
        "text_type": _TEXT if any("TEXT" in line for line in table) else "",
        "table": block(table, 8),
        "create_indexes": block(create_indexes),
        "create_more": block(
            dict.fromkeys((*_search(spec, "create"), *_links(spec), *_create_events(spec)))
        ),
        "drop_more": block(
            dict.fromkeys(
                (
                    *_drop_events(spec),
                    *_forget_events(spec),
                    *_search(spec, "drop"),
                    *_drop_links(spec),
                )
            )
        ),
    }


def _head(stamp: Stamp, call: str) -> dict[str, str]:
    return {
        "command": textwrap.fill(
            call,
            width=88,
            subsequent_indent="    ",
            break_on_hyphens=False,
            break_long_words=False,
        ),
        "revision": stamp.revision,
        "down_revision": f'"{stamp.down_revision}"' if stamp.down_revision else "None",
    }


def field_migration_of(
    before: ResourceSpec, after: ResourceSpec, stamp: Stamp, call: str
) -> dict[str, str]:
    """Of the migration that adds a field, or drops it if `after` lacks it."""
    is_added = len(after.fields) > len(before.fields)
    larger, smaller = (after, before) if is_added else (before, after)
    (field,) = set(larger.fields) - set(smaller.fields)
    add, drop = list(_add_column(larger, field)), list(_drop_column(larger, field))
    if field.is_searched:
        add = [*_search(smaller, "drop"), *add, *_search(larger, "create")]
        drop = [*_search(larger, "drop"), *drop, *_search(smaller, "create")]
    # A column that is recorded cannot be dropped.
    add = [*_drop_events(smaller), *add, *_create_events(larger)]
    drop = [*_drop_events(larger), *drop, *_create_events(smaller)]
    upgrade, downgrade = (add, drop) if is_added else (drop, add)
    types = {"TEXT": _TEXT, "ID": _ID}
    name = field.column.replace("_", " ")
    return {
        **_head(stamp, call),
        "what": f"{'add' if is_added else 'drop'} {name} {'to' if is_added else 'of'}",
        "type": types.get(field.kind.migration, ""),
        "upgrade": block(dict.fromkeys(upgrade)),  # what search needs stands there once
        "downgrade": block(dict.fromkeys(downgrade)),
    }


def _add_column(spec: ResourceSpec, field: Field) -> Iterator[str]:
    many = spec.names.many
    column = field
    if field.is_required:
        yield "# It was not nullable, but its values are gone."
        column = replace(field, is_nullable=True)
    if field.refers_to or field.is_unique:
        # SQLite cannot add these constraints in place.
        yield f'with op.batch_alter_table("{many}") as batch_op:'
        yield f"    batch_op.add_column({_column(column)})"
        if field.refers_to:
            target = field.refers_to.many
            name = f'op.f("fk_{many}_{field.column}_{target}")'
            yield f'    batch_op.create_foreign_key({name}, "{target}", ["{field.column}"], ["id"])'
        if field.is_unique:
            name = f'op.f("uq_{many}_{field.column}")'
            yield f'    batch_op.create_unique_constraint({name}, ["{field.column}"])'
    else:
        check = _check(many, field) if field.check else ""
        yield f'op.add_column("{many}", {_column(column, check)})'
    if field.needs_index:
        name = f'op.f("ix_{many}_{field.column}_id")'
        yield f'op.create_index({name}, "{many}", ["{field.column}", "id"])'


def _drop_column(spec: ResourceSpec, field: Field) -> Iterator[str]:
    many = spec.names.many
    if field.needs_index:
        yield f'op.drop_index(op.f("ix_{many}_{field.column}_id"), "{many}")'
    if field.refers_to or field.is_unique or field.check:
        # SQLite cannot drop columns with constraints in place.
        yield f'with op.batch_alter_table("{many}") as batch_op:'
        if field.check:
            yield f'    batch_op.drop_constraint(op.f("ck_{many}_{field.name}"), type_="check")'
        yield f'    batch_op.drop_column("{field.column}")'
    else:
        yield f'op.drop_column("{many}", "{field.column}")'


def _column(field: Field, check: str = "") -> str:
    default = f"server_default={_sql(field.default)}" if field.default else ""
    nullable = f"nullable={field.is_nullable}"
    arguments = join(f'"{field.column}"', field.kind.migration, check, default, nullable)
    return f"sa.Column({arguments})"


def _sql(default: Default) -> str:
    return f"sa.{default.sql}" if default.sql.endswith("()") else default.sql


def _check(table: str, field: Field) -> str:
    return f'sa.CheckConstraint("{field.check}", name=op.f("ck_{table}_{field.name}"))'


def _links(spec: ResourceSpec) -> Iterator[str]:
    one, many = spec.names.one, spec.names.many
    for field in spec.lists:
        if field.refers_to:
            links, row = spec.links_of(field).many, f"{one}_id"
            columns = (f'sa.Column("{each}", ID, nullable=False)' for each in (field.listed, row))
            key = f'"{field.listed}", "{row}", name=op.f("pk_{links}")'
            table = (
                *(f'"{links}"', *columns),
                _foreign_key(links, field.listed, field.refers_to.many),
                _foreign_key(links, row, many, _CASCADE),
                *(f"sa.PrimaryKeyConstraint({key})", "sqlite_with_rowid=False"),
            )
            yield f"op.create_table({', '.join(table)})"
            yield f'op.create_index(op.f("ix_{links}_{row}"), "{links}", ["{row}"])'
            yield from _CONNECTION
            names = ", ".join(f'"{n}"' for n in (many, field.column, links, row, field.listed))
            yield f"links.create_v1(execute, dialect, {names})"


def _drop_links(spec: ResourceSpec) -> Iterator[str]:
    for field in reversed(spec.lists):
        yield from _CONNECTION
        yield f'links.drop_v1(execute, dialect, "{spec.names.many}", "{field.column}")'
        yield f'op.drop_table("{spec.links_of(field).many}")'


def _search(spec: ResourceSpec, verb: str) -> Iterator[str]:
    fields = [f'"{field.column}"' for field in spec.fields if field.is_searched]
    if fields:
        table = join(f'"{spec.names.many}"', *(fields if verb == "create" else ()))
        yield from _CONNECTION
        yield f"search_index.{verb}_v1(execute, dialect, {table})"


def _create_events(spec: ResourceSpec) -> Iterator[str]:
    if spec.has_events:
        owner = ["owner_id"] if spec.has_owner else []
        fields = (field.column for field in spec.fields)
        columns = ("id", *fields, *owner, "created_at", "updated_at")
        texts = ", ".join(f'"{each}"' for each in (spec.names.many, spec.names.one, *columns))
        yield f"events.create_v1(op.get_bind(), {texts})"


def _drop_events(spec: ResourceSpec) -> Iterator[str]:
    if spec.has_events:
        yield f'events.drop_v1(op.get_bind(), "{spec.names.many}")'


def _forget_events(spec: ResourceSpec) -> Iterator[str]:
    """They have what the rows were, and a table that comes later may have the same name."""
    if spec.has_events:
        delete = f"DELETE FROM events WHERE resource = '{spec.names.many}'"  # noqa: S608 - a name
        yield f'op.execute("{delete}")'


def _migration_table(spec: ResourceSpec) -> Iterator[str]:
    many = spec.names.many
    yield 'sa.Column("id", ID, nullable=False),'
    for field in spec.fields:
        yield f"{_column(field)},"
    if spec.has_owner:
        yield 'sa.Column("owner_id", ID, nullable=False),'
    moment, now = "sa.DateTime(timezone=True)", "server_default=sa.func.now()"
    for name in ("created_at", "updated_at"):
        yield f'sa.Column("{name}", {moment}, {now}, nullable=False),'
    yield 'sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),'
    for field in spec.fields:
        if field.check:
            yield f"{_check(many, field)},"
    if spec.has_owner:
        if len(spec.references) > len(spec.lists):
            yield "# First: PostgreSQL removes what a user owns before it asks who refers to them."
        yield f"{_foreign_key(many, 'owner_id', 'users', _CASCADE)},"
    for field in spec.fields:
        if field.refers_to and not field.is_list:
            yield f"{_foreign_key(many, field.column, field.refers_to.many)},"
    yield f'sa.PrimaryKeyConstraint("id", name=op.f("pk_{many}")),'
    for field in spec.unique_fields:
        name = f'name=op.f("uq_{many}_{field.column}")'
        yield f'sa.UniqueConstraint("{field.column}", {name}),'


def _foreign_key(table: str, column: str, target: str, ondelete: str = "") -> str:
    name = f'name=op.f("fk_{table}_{column}_{target}")'
    return f'sa.ForeignKeyConstraint(["{column}"], ["{target}.id"], {name}{ondelete})'


@dataclass(frozen=True)
class _Indexed:
    name: str
    column: str


def indexed(spec: ResourceSpec) -> list[_Indexed]:
    """The columns indexed together with the id: orders, fields with `:index`, references."""
    found = [_Indexed(field.name, field.column) for field in spec.fields if field.needs_index]
    own = ["owner_id"] if spec.has_owner else []
    return [*found, *(_Indexed(name, name) for name in (*own, "created_at", "updated_at"))]


def identifiers(spec: ResourceSpec) -> Iterator[str]:
    """The names of its indexes and constraints; those of tables and columns are shorter."""
    many = spec.names.many
    yield from (f"ix_{many}_{index.column}_id" for index in indexed(spec))
    for field in spec.references:
        if field.refers_to and field.is_list:
            links = spec.links_of(field).many
            yield f"fk_{links}_{spec.names.one}_id_{many}"
            yield f"fk_{links}_{field.listed}_{field.refers_to.many}"
            yield f"{many}_{field.column}_inserted"
        elif field.refers_to:
            yield f"fk_{many}_{field.column}_{field.refers_to.many}"
    yield from (f"uq_{many}_{field.column}" for field in spec.unique_fields)
    yield from (f"ck_{many}_{field.name}" for field in spec.fields)
