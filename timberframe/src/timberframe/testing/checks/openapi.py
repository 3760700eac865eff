"""The OpenAPI document is one that people can read and that generators make clients of."""

import re
from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI


def operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path in document["paths"].values():
        yield from path.values()


def test_document_is_valid(app: FastAPI) -> None:
    """Its defaults too."""
    # Half a second, and only one of the processes that collect this module needs it.
    from openapi_spec_validator import validate

    validate(app.openapi())


def test_every_reference_in_the_document_leads_somewhere(app: FastAPI) -> None:
    document = app.openapi()
    named = set(re.findall(r"'\$ref': '#/components/schemas/([\w.-]+)'", str(document)))
    assert named - document["components"]["schemas"].keys() == set()


def arrays(part: Any, where: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(part, dict):
        if part.get("type") == "array":
            yield where, part
        part = part.items()
    elif isinstance(part, list):
        part = enumerate(part)
    else:
        return
    for key, each in part:
        yield from arrays(each, f"{where}/{key}")


def test_every_array_says_of_what_it_is(app: FastAPI) -> None:
    """Generators of clients drop operations that have an array without `items`."""
    assert [where for where, array in arrays(app.openapi()) if "items" not in array] == []


def test_every_operation_has_a_name_and_a_sentence(app: FastAPI) -> None:
    """The name of its function, and the docstring: one sentence that ends with a full stop."""
    names = [operation["operationId"] for operation in operations(app.openapi())]
    assert sorted(set(names)) == sorted(names)
    for operation in operations(app.openapi()):
        name, sentence = operation["operationId"], operation.get("description", "")
        assert re.fullmatch("[a-z0-9]+(_[a-z0-9]+)*", name)
        assert re.fullmatch(r"[A-Z].+\.", sentence, re.DOTALL), f"{name}: {sentence!r}"


def undescribed(document: dict[str, Any]) -> list[str]:
    lacking = []
    for name, component in document["components"]["schemas"].items():
        for field, part in component.get("properties", {}).items():
            lacking += lacks(f"{name}.{field}", part.get("description"), part)
    for operation in operations(document):
        for parameter in operation["parameters"]:
            where = f"{operation['operationId']}?{parameter['name']}"
            lacking += lacks(where, parameter.get("description"), parameter["schema"])
    return lacking


def lacks(where: str, description: str | None, part: dict[str, Any]) -> list[str]:
    """What is missing there. All values that are possible, or the default, are an example too."""
    missing = [] if description else [f"{where} has no description"]
    of_items = part.get("items", {})
    is_shown = {"examples", "enum", "const", "$ref"} & (part.keys() | of_items.keys())
    options = {option.get("$ref", option.get("type", "")) for option in part.get("anyOf", ())}
    is_shown |= {option for option in options if option.startswith("#") or option == "array"}
    if not (is_shown or part.get("default") is not None or part.get("type") == "boolean"):
        missing.append(f"{where} has no example")
    return missing


def test_every_field_and_parameter_has_a_description_and_an_example(app: FastAPI) -> None:
    assert undescribed(app.openapi()) == []


def strings(
    document: dict[str, Any], part: Any, where: str, within: tuple[str, ...] = ()
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every string that a client may send, with the path that leads to it."""
    if reference := part.get("$ref"):
        if reference in within:
            return  # a tree refers to itself
        within = (*within, reference)
        part = document["components"]["schemas"][reference.rsplit("/", 1)[1]]
    if part.get("type") == "string":
        yield where, part
    for key in ("anyOf", "oneOf", "allOf"):
        for option in part.get(key, ()):
            yield from strings(document, option, where, within)
    for name, inner in part.get("properties", {}).items():
        yield from strings(document, inner, f"{where}.{name}", within)
    if "items" in part:
        yield from strings(document, part["items"], f"{where}[]", within)


def is_bounded(string: dict[str, Any]) -> bool:
    if {"maxLength", "enum", "const"} & set(string):
        return True
    if string.get("format") in ("date", "date-time", "uuid"):
        return True
    pattern = string.get("pattern", "*")
    whole = pattern.startswith("^") and pattern.endswith("$")
    return whole and not re.search(r"[*+]|,\}", re.sub(r"\\.|\[[^\]]*\]", "x", pattern))


def unbounded(document: dict[str, Any]) -> list[str]:
    found: list[tuple[str, dict[str, Any]]] = []
    for operation in operations(document):
        name = operation["operationId"]
        for content in operation.get("requestBody", {}).get("content", {}).values():
            found += strings(document, content["schema"], name)
        for parameter in operation["parameters"]:
            if parameter["in"] != "header":  # the server bounds them all
                found += strings(document, parameter["schema"], f"{name}?{parameter['name']}")
    return [where for where, string in found if not is_bounded(string)]


def test_every_string_that_may_be_sent_is_bounded(app: FastAPI) -> None:
    assert unbounded(app.openapi()) == []
