"""Generates and destroys resources: everything is computed and checked before it is written."""

import ast
import secrets
from collections.abc import Mapping, Sequence

from timberframe.data.base import utc_now
from timberframe.generator.checkout import DESTROY_RESOURCE, GENERATE_RESOURCE, Checkout
from timberframe.generator.history import migration_of, spec_of
from timberframe.generator.layout import lay_out
from timberframe.generator.migration import Stamp, identifiers
from timberframe.generator.registries import (
    LANDED,
    ROUTERS,
    SCHEMAS,
    forget_migration,
    record_migration,
    register,
    registries_of,
    schema_names,
    unregister,
)
from timberframe.generator.render import render, render_code, render_dropping_migration
from timberframe.generator.spec import CannotGenerate, ResourceSpec, read_spec
from timberframe.project import Project

MAX_IDENTIFIER = 63  # bytes, PostgreSQL's
MAX_LINE = 100


def generate(
    project: Project,
    name: str,
    fields: Sequence[str],
    *,
    policy: str,
    plural: str | None,
    has_bulk: bool,
    has_seed: bool,
    has_events: bool,
) -> list[str]:
    """Write the resource; return what was done, a line for each file."""
    checkout = Checkout(project)
    models = checkout.targets()
    spec = read_spec(
        name,
        fields,
        policy=policy,
        plural=plural,
        models=models,
        has_bulk=has_bulk,
        has_seed=has_seed,
        has_events=has_events,
    )
    _check_new(checkout, spec)
    stamp = Stamp(secrets.token_hex(6), checkout.head(), utc_now())
    sources = render(spec, stamp, _call(checkout, spec))
    check_names(spec, sources)
    files = lay_out(sources, project.root)
    check_lengths(spec, files)
    kept = {path: checkout.read(path) for path in registries_of(spec)}
    registries = register(spec, kept, project.root)
    migration = next(path for path in files if path.startswith("alembic/"))
    registries[LANDED] = record_migration(migration, files[migration], checkout.read(LANDED))
    if existing := next(filter(checkout.exists, files), None):
        raise CannotGenerate(f"{existing} already exists; nothing is overwritten")
    checkout.change(files | registries)
    return [*(f"create  {path}" for path in files), *(f"insert  {path}" for path in registries)]


def destroy(project: Project, name: str, *, is_forced: bool, is_applied: bool) -> list[str]:
    """Remove what `generate` wrote; files that were changed since only if `is_forced`.

    The migration goes too, unless it `is_applied` or others follow it: then a new one drops the
    table.
    """
    checkout = Checkout(project)
    migration = migration_of(checkout, name)
    spec = spec_of(checkout, name)
    if other := checkout.referring_to(spec.names):
        first = f"{checkout.project.name} {DESTROY_RESOURCE} {other}"
        raise CannotGenerate(f"{name}: {other} refers to it; first: {first}")
    files = lay_out(render_code(spec), project.root)
    changed = [p for p, text in files.items() if not checkout.exists(p) or checkout.read(p) != text]
    if changed and not is_forced:
        raise CannotGenerate(f"{changed[0]} was changed since; --force removes it anyway")
    kept = {path: checkout.read(path) for path in registries_of(spec)}
    registries = unregister(spec, kept, project.root, is_forced=is_forced)
    landed, created = checkout.read(LANDED), dict[str, str]()
    found = [path for path in files if checkout.exists(path)]
    if is_applied or checkout.head() != migration.revision:
        stamp = Stamp(secrets.token_hex(6), checkout.head(), utc_now())
        call = f"{checkout.project.name} {DESTROY_RESOURCE} {name}"
        created = lay_out(render_dropping_migration(spec, stamp, call), project.root)
        for path, text in created.items():
            landed = record_migration(path, text, landed)
    else:
        found.append(f"alembic/versions/{migration.path.name}")
        landed = forget_migration(migration.path.name, landed)
    registries[LANDED] = landed
    checkout.change(dict.fromkeys(found) | created | registries)
    return [
        *(f"remove  {path}" for path in found),
        *(f"create  {path}" for path in created),
        *(f"restore {path}" for path in registries),
    ]


def revision_of(project: Project, name: str) -> str:
    """The revision of the migration that creates the resource's table."""
    return migration_of(Checkout(project), name).revision


def _call(checkout: Checkout, spec: ResourceSpec) -> str:
    return " ".join((checkout.project.name, GENERATE_RESOURCE, *spec.arguments))


def _check_new(checkout: Checkout, spec: ResourceSpec) -> None:
    names = spec.names
    one, many = names.one, names.many
    for folder in ("models", "schemas", "crud"):
        if one in checkout.names_in(f"app/{folder}"):
            there = f"app/{folder}/{one}.py already exists"
            raise CannotGenerate(f"{one}: {there}; try: {one}_item")
    schemas = checkout.read(SCHEMAS)
    if taken := next((name for name in schema_names(names) if f'"{name}"' in schemas), None):
        raise CannotGenerate(f"{one}: there is already a schema {taken}; try: {one}_item")
    is_path_taken = f'prefix="/{names.path}"' in checkout.read(ROUTERS)
    has_tests = checkout.exists(f"tests/api/test_{many}.py")
    endpoints = checkout.names_in("app/api/v1/endpoints")
    if many in endpoints | checkout.tables() or is_path_taken or has_tests:
        raise CannotGenerate(f"{many}: already exists; try: --plural {one}_list")
    for field in spec.lists:
        if (links := spec.links_of(field).many) in {many, *checkout.tables()}:
            raise CannotGenerate(f"{field.name}: there is already a table {links}")


def check_names(spec: ResourceSpec, sources: Mapping[str, str]) -> None:
    """Refuse names that clash with others in the code."""
    one = spec.names.one
    clash = CannotGenerate(f"{one}: the generated code uses that name itself; try: {one}_item")
    for source in sources.values():
        try:
            module = ast.parse(source)
            compile(module, one, "exec")
        except SyntaxError:
            raise clash from None
        used = {node.id for node in ast.walk(module) if isinstance(node, ast.Name)}
        bound = [
            name
            for node in module.body
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
            if (name := alias.asname or alias.name) in used  # the others will be dropped
        ]
        for node in module.body:
            if isinstance(node, ast.ClassDef):
                bound.append(node.name)
            elif isinstance(node, ast.Assign):
                bound += [target.id for target in node.targets if isinstance(target, ast.Name)]
        if len(set(bound)) < len(bound):
            raise clash


def check_lengths(spec: ResourceSpec, files: Mapping[str, str]) -> None:
    """Refuse names that make lines or identifiers too long."""
    if any(len(line) > MAX_LINE for text in files.values() for line in text.splitlines()):
        one = spec.names.one
        raise CannotGenerate(f"{one}: with names of this length the lines would be too long")
    if too_long := next((n for n in identifiers(spec) if len(n) > MAX_IDENTIFIER), None):
        raise CannotGenerate(f"{too_long}: names in a database have up to {MAX_IDENTIFIER} letters")
