"""The source of each file of a resource, from the templates; `layout` formats it."""

import re
from pathlib import Path
from string import Template

from timberframe.generator.application import bulk_of, crud_of, endpoints_of, model_of, schema_of
from timberframe.generator.migration import Stamp, field_migration_of, migration_of
from timberframe.generator.spec import ResourceSpec
from timberframe.generator.tests import sections_of, test_of

_TEMPLATES = Path(__file__).with_name("templates")
_FOR_WHOM = {
    "owner": "for their owner and superusers",
    "public-read": "open to all readers, written by their owner",
    "published": "open to all readers, written by superusers",
    "superuser": "for superusers",
}


def render(spec: ResourceSpec, stamp: Stamp, call: str) -> dict[str, str]:
    """The sources by path; `call` is the command that generates the resource."""
    path = _path_of_migration(stamp, f"add_{spec.names.many}")
    return render_code(spec) | {path: fill(spec, ["migration"], migration_of(spec, stamp, call))}


def render_code(spec: ResourceSpec) -> dict[str, str]:
    """All but the migration."""
    one, many = spec.names.one, spec.names.many
    bulk = f"app/api/v1/endpoints/{many}_bulk.py"
    return {
        f"app/models/{one}.py": fill(spec, ["model"], model_of(spec)),
        f"app/schemas/{one}.py": fill(spec, ["schema"], schema_of(spec)),
        f"app/crud/{one}.py": fill(spec, ["crud"], crud_of(spec)),
        f"app/api/v1/endpoints/{many}.py": fill(spec, ["endpoints"], endpoints_of(spec)),
        **({bulk: fill(spec, ["bulk"], bulk_of(spec))} if spec.has_bulk else {}),
        f"tests/api/test_{many}.py": fill(spec, sections_of(spec), test_of(spec)),
    }


def render_dropping_migration(spec: ResourceSpec, stamp: Stamp, call: str) -> dict[str, str]:
    """The source of the migration that drops the table, by its path."""
    path = _path_of_migration(stamp, f"drop_{spec.names.many}")
    return {path: fill(spec, ["migration_drop"], migration_of(spec, stamp, call))}


def render_field_migration(
    before: ResourceSpec, after: ResourceSpec, stamp: Stamp, call: str
) -> dict[str, str]:
    """The source of the migration that adds or drops a field, by its path."""
    values = field_migration_of(before, after, stamp, call)
    words = re.sub("[^a-z ]", "", f"{values['what']} {after.names.many_words}").split()
    path = _path_of_migration(stamp, "_".join(words))
    return {path: fill(after, ["migration_field"], values)}


def _path_of_migration(stamp: Stamp, name: str) -> str:
    return f"alembic/versions/{stamp.made_at:%Y-%m-%d_%H%M}_{name}.py"


def fill(spec: ResourceSpec, templates: list[str], values: dict[str, str]) -> str:
    """The templates as one source; a line that is one placeholder goes if its value is empty."""
    names = {
        "one": spec.names.one,
        "many": spec.names.many,
        "Model": spec.names.model,
        "words": spec.names.words,
        "many_words": spec.names.many_words,
        "title": spec.names.many_words.capitalize(),
        "path": spec.names.path,
        "policy": spec.policy,
        "for_whom": _FOR_WHOM[spec.policy],
    }
    text = "\n\n".join((_TEMPLATES / f"{name}.py.tmpl").read_text() for name in templates)
    nothing = {f"${name}" for name, value in values.items() if not value}
    lines = [line for line in text.splitlines() if line not in nothing]
    return Template("\n".join(lines)).substitute(names | values)
