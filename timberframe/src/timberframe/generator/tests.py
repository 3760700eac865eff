"""Values for the templates of a resource's tests."""

import re
from collections.abc import Iterator

from timberframe.generator.layout import block, deeper, dict_of, tuple_of
from timberframe.generator.spec import Field, ResourceSpec

_MOMENTS = ("created_at", "updated_at")
# One who did not make the row, and whether they are told of its changes.
_OTHER_READERS = {
    "owner": ("bob", "[]"),
    "public-read": ("client", "told"),
    "published": ("client", "told"),
    "superuser": ("alice", "[]"),
}


def sections_of(spec: ResourceSpec) -> list[str]:
    """The templates that make up its test module, in their order."""
    found = {
        "test": True,
        "test_search": any(field.is_searched for field in spec.fields),
        "test_wrong": True,
        "test_required": any(field.is_required for field in spec.fields),
        "test_null": any(field.is_nullable for field in spec.fields),
        "test_default": any(field.default for field in spec.fields),
        "test_unique": bool(spec.unique_fields),
        "test_references": bool(_hideable(spec)),
        "test_listed": any(not _is_to_user(field) for field in spec.lists),
        "test_referred_user": any(_is_to_user(field) for field in spec.references),
        "test_bulk": spec.has_bulk,
        "test_seed": spec.has_seed,
        "test_events": spec.has_events,
        "test_decided": True,
        f"test_{spec.policy}": True,
    }
    return [name for name, is_needed in found.items() if is_needed]


def writer_of(spec: ResourceSpec) -> str:
    """The fixture of one who may create rows."""
    return "alice" if spec.has_owner else "admin"


def test_of(spec: ResourceSpec) -> dict[str, str]:
    writer = writer_of(spec)
    fixed = [field for field in spec.plain_fields if not field.is_unique]
    samples = {field.name: field.kind.sample for field in fixed}
    others = {field.name: "None" if field.is_nullable else field.kind.other for field in fixed}
    changes = _changes(spec)
    apart = {f.name: _in_list(f, "BOB.id") for f in spec.references if f.name not in changes}
    changer = writer
    if not others | changes:
        # It has only references to users, and only superusers may refer to another user.
        changer, changes, apart = "admin", apart, {}
    owner = ("owner_id",) if spec.has_owner else ()
    further = list(_further(spec))
    reader, told = _OTHER_READERS[spec.policy]
    return {
        "samples": "\n".join(_samples(samples, others)),
        "numbers": _numbers(spec),
        "valid": block(_body("SAMPLE" if samples else "", _new_values(spec))),
        "change": block(_body("OTHER" if others else "", changes)),
        "further": f", further={tuple_of(further)}" if further else "",
        "writer": writer,
        "writer_person": writer.upper(),
        "changer": changer,
        "decided": tuple_of(f'"{name}"' for name in ("id", *owner, *_MOMENTS)),
        "other_reader": reader,
        "told_to_other": told,
        "apart": "".join(f", {name}={value}" for name, value in apart.items()),
        "filters": tuple_of(_filters(spec)),
        "sorted": _names((*(f.name for f in spec.fields if f.is_sortable), *_MOMENTS)),
        "searched": _names(field.name for field in spec.fields if field.is_searched),
        "wrong": "\n".join(deeper(_wrong(spec))),
        "required": _names(field.name for field in spec.fields if field.is_required),
        "nullable": _names(field.name for field in spec.fields if field.is_nullable),
        "defaults": dict_of({f.name: f.default.json for f in spec.fields if f.default}),
        "unique": _names(field.name for field in spec.unique_fields),
        "hidden": tuple_of(_hideable(spec)) if _hideable(spec) else "",
        "to_user": next(
            (f"{f.name}={_in_list(f, 'BOB.id')}" for f in spec.references if _is_to_user(f)), ""
        ),
        "listed": next((f.name for f in spec.lists if not _is_to_user(f)), ""),
        "listed_path": next((_path_of(f) for f in spec.lists if not _is_to_user(f)), ""),
        "one_listed": next((f.listed for f in spec.lists if not _is_to_user(f)), ""),
    }


def _is_to_user(field: Field) -> bool:
    return field.refers_to is not None and field.refers_to.is_user


def _in_list(field: Field, id: str) -> str:
    return f"[{id}]" if field.is_list else id


def _path_of(field: Field) -> str:
    return f"/{field.refers_to.path}/" if field.refers_to else ""


def _further(spec: ResourceSpec) -> Iterator[str]:
    """Rows of the routes that only some resources have."""
    reads = {"owner": "SIGNED_IN", "superuser": "SUPERUSER"}.get(spec.policy, "EVERYBODY")
    if spec.has_bulk:
        yield from _bulk_routes(spec, reads)
    if spec.has_events:
        yield f'Route("GET", f"{{PATH}}events", {reads})'


def _bulk_routes(spec: ResourceSpec, reads: str) -> Iterator[str]:
    creates = "SIGNED_IN" if spec.has_owner else "SUPERUSER"
    cells = ",".join(field.name for field in spec.fields if field.is_required)
    sends = f'{{"content": "{cells}", "headers": {{"Content-Type": "text/csv"}}}}'
    shows = "frozenset(ImportReport.model_fields)"
    yield f'Route("POST", f"{{PATH}}import", {creates}, sends={sends}, shows={shows})'
    yield f'Route("GET", f"{{PATH}}export", {reads})'


def _samples(samples: dict[str, str], others: dict[str, str]) -> Iterator[str]:
    if samples:
        yield f"SAMPLE: dict[str, Any] = {dict_of(samples)}"
        yield f"OTHER: dict[str, Any] = {dict_of(others)}"


def _numbers(spec: ResourceSpec) -> str:
    if not any(field.is_unique and not field.refers_to for field in spec.fields):
        return ""
    return "# For the values that no two rows share.\nNUMBERS = count(100)"


def _new_values(spec: ResourceSpec) -> dict[str, str]:
    """Values that must be new in each row, and references to rows that the writer may use."""
    values = {}
    for field in spec.fields:
        if field.refers_to:
            new = f'(await new_row("{_path_of(field)}", writer))["id"]'
            new = "await own_id(writer)" if _is_to_user(field) else new
            values[field.name] = _in_list(field, new)
        elif field.is_unique:
            values[field.name] = field.kind.new
    return values


def _changes(spec: ResourceSpec) -> dict[str, str]:
    """The same, but null where possible; without users, whom only superusers may change."""
    nullable = {field.name for field in spec.fields if field.is_nullable}
    users = {field.name for field in spec.references if _is_to_user(field)}
    return {
        name: "None" if name in nullable else value
        for name, value in _new_values(spec).items()
        if name in nullable or name not in users
    }


def _body(constant: str, values: dict[str, str]) -> Iterator[str]:
    if any(re.search(r"\bnumber\b", value) for value in values.values()):
        yield "number = next(NUMBERS)"
    own = dict_of(values) if values else ""
    yield (
        f"return {constant} | {own}" if constant and own else f"return {own or f'dict({constant})'}"
    )


def _filters(spec: ResourceSpec) -> Iterator[str]:
    """Cases: `(parameter, value, which of two rows it finds)`."""
    for field in spec.fields:
        first, second = f'first["{field.name}"]', f'second["{field.name}"]'
        if field.is_list:
            yield f'("{field.listed}", {first}, first)'
        for name in field.operators:
            parameter = field.name if name == "eq" else f"{field.name}__{name}"
            match name:
                case "isnull":
                    yield f'("{parameter}", "false", first)'
                    yield f'("{parameter}", "true", second)'
                case "gt":
                    if not field.is_nullable:
                        yield f'("{parameter}", {first}, second)'
                case "gte" | "lt":
                    if not field.is_nullable:
                        row = "first" if name == "lt" else "second"
                        yield f'("{parameter}", {second}, {row})'
                case _:
                    yield f'("{parameter}", {first}, first)'
    for name in _MOMENTS:
        yield f'("{name}__gt", first["{name}"], second)'
    yield '("id__in", first["id"], first)'


def _names(names: Iterator[str] | tuple[str, ...]) -> str:
    found = [f'"{name}"' for name in names]
    return tuple_of(found) if found else ""


def _wrong(spec: ResourceSpec) -> Iterator[str]:
    for field in spec.fields:
        values = field.kind.wrong
        yield f'"{field.name}": {values if field.is_nullable else f"(*{values}, None)"},'


def _hideable(spec: ResourceSpec) -> list[str]:
    """Cases: `(field, a row that is not alice's, one that is not there)`."""
    if not spec.has_owner:
        return []
    return [
        f'("{field.name}", {_of_bob(field)}, {_in_list(field, "10**6")})'
        for field in spec.references
        if field.refers_to and field.refers_to.is_hidden
    ]


def _of_bob(field: Field) -> str:
    of_bob = f'(await new_row("{_path_of(field)}", bob))["id"]'
    return _in_list(field, "BOB.id" if _is_to_user(field) else of_bob)
