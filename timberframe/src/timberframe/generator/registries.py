"""A resource's lines in the files that list all resources."""

import hashlib
import re
from pathlib import Path, PurePosixPath

from timberframe.generator.application import bulk_of
from timberframe.generator.layout import format_source, lay_out, with_imports
from timberframe.generator.names import Names
from timberframe.generator.render import fill
from timberframe.generator.spec import CannotGenerate, ResourceSpec

MODELS = "app/models/__init__.py"
SCHEMAS = "app/schemas/__init__.py"
CRUDS = "app/crud/__init__.py"
ROUTERS = "app/api/v1/api.py"
_REGISTRIES = (MODELS, SCHEMAS, CRUDS, ROUTERS)
CLI = "app/cli.py"
AFTER_COMMANDS = "\n\n"
LANDED = "alembic/landed.sha256"

_ALL = "__all__ = ["
_ENDPOINTS = "from app.api.v1.endpoints import ("
CLI_IMPORTS = """\
from datetime import date, timedelta
from typing import Any
from uuid import UUID
from timberframe.cli import add_bulk_commands, add_seed_command
"""
_ON_ONE_LINE = re.compile(
    r"^(__all__ = \[|from app\.api\.v1\.endpoints import )([\w\", ]+)(\]?)$", re.MULTILINE
)


def registries_of(spec: ResourceSpec) -> tuple[str, ...]:
    """The paths of those that have lines of the resource."""
    return (*_REGISTRIES, CLI) if spec.has_bulk else _REGISTRIES


def register(spec: ResourceSpec, files: dict[str, str], root: Path) -> dict[str, str]:
    """`files`, by path below `root`, with the resource's lines inserted."""
    names = spec.names
    models, schemas, cruds, routers = (_unfold(files[path]) for path in _REGISTRIES)
    models = _insert_import(MODELS, models, _model_import(names))
    models = _insert_item(MODELS, models, _ALL, _model_item(names))
    schemas = _insert_import(SCHEMAS, schemas, _schema_import(names, root))
    for item in _schema_items(names):
        schemas = _insert_item(SCHEMAS, schemas, _ALL, item)
    cruds = _insert_import(CRUDS, cruds, _crud_import(names))
    cruds = _insert_item(CRUDS, cruds, _ALL, _crud_item(names))
    for module in _modules(spec):
        routers = _insert_item(ROUTERS, routers, _ENDPOINTS, f"    {module},\n")
        routers += _router_line(names, module, root)
    registries = {MODELS: models, SCHEMAS: schemas, CRUDS: cruds, ROUTERS: routers}
    if spec.has_bulk:
        registries[CLI] = _insert_commands(spec, files[CLI], root)
    return registries


def unregister(
    spec: ResourceSpec, files: dict[str, str], root: Path, *, is_forced: bool
) -> dict[str, str]:
    """`files` without the resource's lines; a missing line is an error unless `is_forced`."""
    names = spec.names
    lines = {
        MODELS: [_model_import(names), _model_item(names)],
        SCHEMAS: [_schema_import(names, root), *_schema_items(names)],
        CRUDS: [_crud_import(names), _crud_item(names)],
        ROUTERS: [
            line
            for module in _modules(spec)
            for line in (f"    {module},\n", _router_line(names, module, root))
        ],
    }
    if spec.has_bulk:
        lines[CLI] = [lay_out({CLI: commands_of(spec)}, root)[CLI] + AFTER_COMMANDS]
    left = {}
    for path, own in lines.items():
        left[path] = files[path]
        for line in own:
            before, found, after = f"\n{left[path]}".partition(f"\n{line}")
            if found:
                left[path] = f"{before}\n{after}".removeprefix("\n")
            elif not is_forced:
                changed = f"{path} no longer has the line {line.strip().splitlines()[0]!r}"
                raise CannotGenerate(f"{changed}; --force removes what is there")
    return left | lay_out({path: left[path] for path in left if path == CLI}, root)


def record_migration(migration: str, text: str, landed: str) -> str:
    """Append the hash of a new migration to `landed`, which the tests compare migrations with."""
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f"{landed}{digest}  {PurePosixPath(migration).name}\n"


def forget_migration(name: str, landed: str) -> str:
    return "".join(line for line in landed.splitlines(True) if line.split()[-1] != name)


def _model_import(names: Names) -> str:
    return f"from app.models.{names.one} import {names.model}\n"


def _model_item(names: Names) -> str:
    return f'    "{names.model}",\n'


def schema_names(names: Names) -> list[str]:
    return [f"{names.model}{suffix}" for suffix in ("", "Create", "List", "Update")]


def _schema_import(names: Names, root: Path) -> str:
    line = f"from app.schemas.{names.one} import {', '.join(schema_names(names))}"
    return format_source(line, SCHEMAS, root)


def _schema_items(names: Names) -> list[str]:
    return [f'    "{name}",\n' for name in schema_names(names)]


def _crud_import(names: Names) -> str:
    return f"from app.crud.{names.one} import {names.one}_crud\n"


def _crud_item(names: Names) -> str:
    return f'    "{names.one}_crud",\n'


def _modules(spec: ResourceSpec) -> list[str]:
    """The modules of its endpoints."""
    many = spec.names.many
    return [many, f"{many}_bulk"] if spec.has_bulk else [many]


def _router_line(names: Names, module: str, root: Path) -> str:
    options = f'prefix="/{names.path}", tags=["{names.many_words}"]'
    line = f"api_router.include_router({module}.router, {options})"
    return format_source(line, ROUTERS, root)


def commands_of(spec: ResourceSpec) -> str:
    """The code of its commands, which is not laid out yet."""
    templates = ["cli_bulk", "cli_seed"] if spec.has_seed else ["cli_bulk"]
    return fill(spec, templates, bulk_of(spec)) + "\n"


def _insert_commands(spec: ResourceSpec, text: str, root: Path) -> str:
    before, found, after = text.partition("\ndef main(")
    if not found:
        raise CannotGenerate(f"{CLI}: has no function main to add commands before")
    source = f"{before}\n{commands_of(spec)}{AFTER_COMMANDS}def main({after}"
    return lay_out({CLI: with_imports(source, CLI_IMPORTS, CLI)}, root)[CLI]


def _unfold(text: str) -> str:
    """Give each name of a list or an import on one line a line of its own."""

    def unfold(found: re.Match[str]) -> str:
        opening, names, closing = found.groups()
        items = "".join(f"    {name.strip()},\n" for name in names.split(",") if name.strip())
        return f"{opening}\n{items}{closing}" if closing else f"{opening}(\n{items})"

    return _ON_ONE_LINE.sub(unfold, text)


def _insert_import(path: str, text: str, statement: str) -> str:
    """Insert it sorted by module; a statement may have several lines."""
    module = statement.split()[1]
    starts = [(m[1], m.start()) for m in re.finditer(r"^from (app\S*) import ", text, re.MULTILINE)]
    if not starts:
        raise CannotGenerate(f"{path}: there are no imports to add one to")
    later = [at for other, at in starts if other > module]
    at = later[0] if later else text.index("\n\n", starts[-1][1]) + 1
    return text[:at] + statement + text[at:]


def _insert_item(path: str, text: str, opening: str, item: str) -> str:
    """Insert it sorted among the lines after `opening`."""
    before, found, after = text.partition(f"{opening}\n")
    if not found:
        raise CannotGenerate(f"{path}: after {opening!r} each name needs a line of its own")
    lines = after.splitlines(keepends=True)
    end = next(at for at, line in enumerate(lines) if line[0] in ")]")
    at = next((at for at in range(end) if lines[at] > item), end)
    return before + found + "".join([*lines[:at], item, *lines[at:]])
