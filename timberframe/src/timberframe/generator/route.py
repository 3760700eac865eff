"""Adds a route to a generated resource: a handler to start from, its row of the table, a test."""

import ast
import builtins
import re
from collections.abc import Iterator

from timberframe.generator.application import endpoints_of
from timberframe.generator.checkout import Checkout
from timberframe.generator.history import spec_of
from timberframe.generator.layout import lay_out, with_imports
from timberframe.generator.render import fill
from timberframe.generator.spec import CannotGenerate, ResourceSpec
from timberframe.generator.tests import writer_of
from timberframe.project import Project

# Who may call it, in words of `timberframe.testing.routes`: a list, a row, a change.
_ACCESS = {
    "owner": ("SIGNED_IN", "HIDDEN_OWNER", "HIDDEN_OWNER"),
    "public-read": ("EVERYBODY", "EVERYBODY", "OWNER"),
    "published": ("EVERYBODY", "EVERYBODY", "SUPERUSER"),
    "superuser": ("SUPERUSER", "SUPERUSER", "SUPERUSER"),
}
_KINDS = ("list", "read", "change")
_HANDLER_IMPORTS = """\
from timberframe.errors import AlreadyExists, Conflict, NotFound, NotPermitted
from timberframe.results import Slice, Stored
from timberframe.routes import CurrentUser, DbRead, DbSession, OptionalUser
from timberframe.routes import get_current_user, problems, superuser_only
from app import models, schemas
"""
_TEST_IMPORTS = """\
import httpx2
from app import schemas
from timberframe.testing.routes import EVERYBODY, HIDDEN_OWNER, OWNER, SIGNED_IN, SUPERUSER
from timberframe.testing.routes import PAGE, Route, said
"""


def generate_route(project: Project, resource: str, method: str, path: str, name: str) -> list[str]:
    """Add `GET /latest`, `GET /{id}/similar` or `POST /{id}/close`; return what was done."""
    checkout = Checkout(project)
    spec = spec_of(checkout, resource)
    kind, last = _read(method.upper(), path)
    _check_name(checkout, name)
    endpoints = f"app/api/v1/endpoints/{spec.names.many}.py"
    tests = f"tests/api/test_{spec.names.many}.py"
    sources = {
        each: with_imports(checkout.read(each), imports, each)
        for each, imports in ((endpoints, _HANDLER_IMPORTS), (tests, _TEST_IMPORTS))
    }
    values = _values(spec, kind, last, name)
    handler, test = (
        fill(spec, [f"route_{kind}"], values),
        fill(spec, [f"test_route_{kind}"], values),
    )
    _check_handler(sources[endpoints], endpoints, handler, values["path"])
    row = f'Route("{method.upper()}", {values["row"]}, {values["access"]}, shows={values["shows"]})'
    sources[endpoints] += f"\n\n{handler}"
    sources[tests] = _with_row(sources[tests], tests, row) + f"\n\n{test}"
    changed = lay_out(sources, project.root)
    checkout.change(changed)
    return [f"change  {path}" for path in changed]


def _read(method: str, path: str) -> tuple[str, str]:
    """The kind of the route, and the last part of its path."""
    found = re.fullmatch(r"(/\{id\})?/([a-z0-9]+(?:-[a-z0-9]+)*)", path)
    if not found:
        raise CannotGenerate(f"{path}: a path is like /latest or /{{id}}/similar")
    kinds = {("GET", False): "list", ("GET", True): "read", ("POST", True): "change"}
    if kind := kinds.get((method, bool(found[1]))):
        return kind, found[2]
    able = "GET /latest, GET /{id}/similar and POST /{id}/close"
    raise CannotGenerate(f"{method} {path}: routes like {able} are generated; write others by hand")


def _check_name(checkout: Checkout, name: str) -> None:
    if not re.fullmatch("[a-z]+(_[a-z0-9]+)+", name):
        raise CannotGenerate(f"{name}: a handler is named like read_similar_books or close_order")
    for module in sorted(checkout.names_in("app/api/v1/endpoints")):
        path = f"app/api/v1/endpoints/{module}.py"
        if f"async def {name}(" in checkout.read(path):
            raise CannotGenerate(f"{name}: {path} has a handler of that name")


def _values(spec: ResourceSpec, kind: str, last: str, name: str) -> dict[str, str]:
    given = endpoints_of(spec)
    one, shows = spec.names.one, f"frozenset(schemas.{spec.names.model}.model_fields)"
    of_row = f"/{{{one}_id:id}}"
    if kind == "list":
        old, path, row, url = '"/"', f"/{last}", f'f"{{PATH}}{last}"', f'f"{{PATH}}{last}"'
        options, shows = given["list_options"], f"{shows} | PAGE"
    else:
        old, path = f'"{of_row}"', f"{of_row}/{last}"
        row = f'f"{{PATH}}{{{{{one}_id}}}}/{last}"'
        url = f"f\"{{PATH}}{{row['id']}}/{last}\""
        options = given["read_options" if kind == "read" else "update_options"]
    return given | {
        "name": name,
        "path": path,
        "options": options.replace(old, f'"{path}"', 1),
        "text": f"{name.replace('_', ' ').capitalize()}.",
        "writer": writer_of(spec),
        "row": row,
        "url": url,
        "access": _ACCESS[spec.policy][_KINDS.index(kind)],
        "shows": shows,
    }


def _check_handler(source: str, path: str, handler: str, route: str) -> None:
    """Refuse a route that the module has, and one that needs a name which it has no more."""
    verb = handler.partition("(")[0]
    if re.search(rf'^{re.escape(verb)}\(\s*"{re.escape(route)}"', source, re.MULTILINE):
        raise CannotGenerate(f"{route}: {path} has that route")
    function = ast.parse(handler)
    known = set(dir(builtins)).union(*map(_bound, (source, handler)))
    used = (node.id for node in ast.walk(function) if isinstance(node, ast.Name))
    if gone := next((name for name in used if name not in known), None):
        raise CannotGenerate(f"{path}: has no {gone} any more; write the route by hand")


def _bound(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.arg):
            yield node.arg


def _with_row(source: str, path: str, row: str) -> str:
    """With one more route in the `further` of the module's `RESOURCE`."""
    for node in ast.parse(source).body:
        match node:
            case ast.Assign(targets=[ast.Name(id="RESOURCE")], value=ast.Call() as call):
                old = ast.get_source_segment(source, call) or ""
                for keyword in call.keywords:
                    if keyword.arg == "further":
                        old = ast.get_source_segment(source, keyword.value) or ""
                        first = old.removeprefix("(").removesuffix(")").rstrip().rstrip(",")
                        return source.replace(old, f"({first}, {row})", 1)
                return source.replace(old, f"{old[:-1].rstrip().rstrip(',')}, further=({row},))", 1)
    raise CannotGenerate(f"{path}: has no RESOURCE = Resource(…) to add the route to")
