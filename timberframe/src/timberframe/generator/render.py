"""The source of each file of a resource, from the templates; `layout` formats it."""

from pathlib import Path
from string import Template

from timberframe.generator.application import crud_of, endpoints_of, model_of, schema_of
from timberframe.generator.call import Call
from timberframe.generator.migration import Stamp, migration_of
from timberframe.generator.tests import sections_of, test_of

_TEMPLATES = Path(__file__).with_name("templates")
_FOR_WHOM = {
    "owner": "for their owner and superusers",
    "public-read": "open to all readers, written by their owner",
    "published": "open to all readers, written by superusers",
    "superuser": "for superusers",
}


def render(call: Call, stamp: Stamp, *, command: str) -> dict[str, str]:
    """The sources by path; `command` is the one that generates a resource."""
    one, many = call.names.one, call.names.many
    versions = f"alembic/versions/{stamp.made_at:%Y-%m-%d_%H%M}"
    return {
        f"app/models/{one}.py": _fill(call, ["model"], model_of(call)),
        f"app/schemas/{one}.py": _fill(call, ["schema"], schema_of(call)),
        f"app/crud/{one}.py": _fill(call, ["crud"], crud_of(call)),
        f"app/api/v1/endpoints/{many}.py": _fill(call, ["endpoints"], endpoints_of(call)),
        f"{versions}_add_{many}.py": _fill(call, ["migration"], migration_of(call, stamp, command)),
        f"tests/api/test_{many}.py": _fill(call, sections_of(call), test_of(call)),
    }


def _fill(call: Call, templates: list[str], values: dict[str, str]) -> str:
    names = {
        "one": call.names.one,
        "many": call.names.many,
        "Model": call.names.model,
        "words": call.names.words,
        "many_words": call.names.many_words,
        "title": call.names.many_words.capitalize(),
        "path": call.names.path,
        "policy": call.policy,
        "for_whom": _FOR_WHOM[call.policy],
    }
    text = "\n\n".join((_TEMPLATES / f"{name}.py.tmpl").read_text() for name in templates)
    nothing = {f"${name}" for name, value in values.items() if not value}
    lines = [line for line in text.splitlines() if line not in nothing]
    return Template("\n".join(lines)).substitute(names | values)
