"""Adds a field to a generated resource, and drops one."""

import re
import secrets

from timberframe.data.base import utc_now
from timberframe.generator.checkout import (
    DESTROY_FIELD,
    GENERATE_FIELD,
    Checkout,
    Migration,
)
from timberframe.generator.history import spec_of
from timberframe.generator.layout import lay_out_each, with_imports
from timberframe.generator.merge import Conflict, merge
from timberframe.generator.migration import Stamp
from timberframe.generator.registries import (
    AFTER_COMMANDS,
    CLI,
    CLI_IMPORTS,
    LANDED,
    commands_of,
    forget_migration,
    record_migration,
)
from timberframe.generator.render import render_code, render_field_migration
from timberframe.generator.resource import check_lengths, check_names
from timberframe.generator.spec import (
    CannotGenerate,
    ResourceSpec,
    field_of,
    with_field,
    without_field,
)
from timberframe.project import Project


def generate_field(project: Project, name: str, text: str) -> list[str]:
    """Add a field, written as for a resource; return what was done, a line for each file."""
    checkout = Checkout(project)
    before = spec_of(checkout, name)
    after = with_field(before, text, checkout.targets())
    field = after.fields[-1]
    if re.search(rf"^    {field.name}: ", checkout.read(f"app/models/{name}.py"), re.MULTILINE):
        raise CannotGenerate(f"{field.name}: app/models/{name}.py has it already")
    if field.refers_to and name in _all_referred_to(checkout, field.refers_to.one):
        why = f"{field.refers_to.one} refers to {name} already"
        raise CannotGenerate(f"{field.name}: {why}; in a circle nothing could be created first")
    if field.is_required:
        instead = f"{text}=…" if field.kind.default or field.choices else f"{text}?"
        raise CannotGenerate(f"{field.name}: rows that exist need a value; try: {instead}")
    return _change(checkout, before, after, f"{GENERATE_FIELD} {name} {text}")


def _all_referred_to(checkout: Checkout, one: str) -> set[str]:
    """The resources that this one refers to, and those that they refer to."""
    found, pending = set[str](), [one]
    while pending:
        text = checkout.read(f"app/crud/{pending.pop()}.py")
        further = set(re.findall(r"^from app\.crud\.(\w+) import \1_crud$", text, re.MULTILINE))
        pending += further - found
        found |= further
    return found


def destroy_field(project: Project, name: str, field: str, *, is_applied: bool) -> list[str]:
    """Drop a field by a new migration; or remove the one that adds it, unless it `is_applied`."""
    checkout = Checkout(project)
    before = spec_of(checkout, name)
    after = without_field(before, field)
    if (newest := _adding(checkout, name, field)) and not is_applied:
        return _change(checkout, before, after, removed=newest)
    call = f"{DESTROY_FIELD} {name} {field_of(before, field).name}"
    return _change(checkout, before, after, call)


def revision_that_adds(project: Project, name: str, field: str) -> str | None:
    """The revision of the newest migration, if it adds this field."""
    checkout = Checkout(project)
    spec_of(checkout, name)
    migration = _adding(checkout, name, field)
    return migration.revision if migration else None


def _adding(checkout: Checkout, name: str, field: str) -> Migration | None:
    head = checkout.head()
    migration = checkout.migrations[head] if head else None
    if migration and migration.command == GENERATE_FIELD:
        match migration.arguments:
            case [one, text] if one == name:
                if text.partition(":")[0] in (field, field.removesuffix("_id")):
                    return migration
    return None


def _change(
    checkout: Checkout,
    before: ResourceSpec,
    after: ResourceSpec,
    call: str | None = None,
    *,
    removed: Migration | None = None,
) -> list[str]:
    root = checkout.root
    sources = [render_code(before), render_code(after)]
    check_names(after, sources[1])
    if after.has_bulk:
        sources += [{CLI: commands_of(spec)} for spec in (before, after)]
    old, new, *commands = lay_out_each(sources, root)
    check_lengths(after, new)
    merged = {path: _merged(checkout, path, old[path], new[path]) for path in new}
    if commands:
        texts = (each[CLI] + AFTER_COMMANDS for each in commands)
        merged[CLI] = with_imports(_merged(checkout, CLI, *texts), CLI_IMPORTS, CLI)
    migration: dict[str, str] = {}
    if call:
        stamp = Stamp(secrets.token_hex(6), checkout.head(), utc_now())
        call = f"{checkout.project.name} {call}"
        migration = render_field_migration(before, after, stamp, call)
    merged, migration = lay_out_each([merged, migration], root)
    changed: dict[str, str | None] = {
        path: text for path, text in merged.items() if text != checkout.read(path)
    }
    landed = checkout.read(LANDED)
    if removed:
        path = f"alembic/versions/{removed.path.name}"
        landed = forget_migration(removed.path.name, landed)
        checkout.change({path: None, **changed, LANDED: landed})
        return [f"remove  {path}", *(f"change  {path}" for path in changed), f"restore {LANDED}"]
    ((path, text),) = migration.items()
    if checkout.exists(path):
        raise CannotGenerate(f"{path} already exists; nothing is overwritten")
    checkout.change({path: text, **changed, LANDED: record_migration(path, text, landed)})
    return [f"create  {path}", *(f"change  {path}" for path in changed), f"insert  {LANDED}"]


def _merged(checkout: Checkout, path: str, before: str, after: str) -> str:
    try:
        return merge(before, after, checkout.read(path))
    except Conflict as conflict:
        line = (str(conflict) or "a blank line").splitlines()[0]
        raise CannotGenerate(
            f"{path}: {line!r} is not there as it was generated; change the resource by hand"
        ) from None
