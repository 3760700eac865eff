"""The source of each file of a resource, from the templates; `layout` formats it."""

from pathlib import Path
from string import Template

from timberframe.generator.application import crud_of, endpoints_of, model_of, schema_of
from timberframe.generator.migration import Stamp, migration_of
from timberframe.generator.spec import ResourceSpec
from timberframe.generator.tests import sections_of, test_of

_TEMPLATES = Path(__file__).with_name("templates")
_FOR_WHOM = {
    "owner": "for their owner and superusers",
    "public-read": "open to all readers, written by their owner",
    "published": "open to all readers, written by superusers",
    "superuser": "for superusers",
}


def render(spec: ResourceSpec, stamp: Stamp, *, command: str) -> dict[str, str]:
    """The sources by path; `command` is the one that generates a resource."""
    one, many = spec.names.one, spec.names.many
    versions = f"alembic/versions/{stamp.made_at:%Y-%m-%d_%H%M}"
    return {
        f"app/models/{one}.py": _fill(spec, ["model"], model_of(spec)),
        f"app/schemas/{one}.py": _fill(spec, ["schema"], schema_of(spec)),
        f"app/crud/{one}.py": _fill(spec, ["crud"], crud_of(spec)),
        f"app/api/v1/endpoints/{many}.py": _fill(spec, ["endpoints"], endpoints_of(spec)),
        f"{versions}_add_{many}.py": _fill(spec, ["migration"], migration_of(spec, stamp, command)),
        f"tests/api/test_{many}.py": _fill(spec, sections_of(spec), test_of(spec)),
    }


def _fill(spec: ResourceSpec, templates: list[str], values: dict[str, str]) -> str:
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
