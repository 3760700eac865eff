"""A field of a resource is in each schema that should have it: create, update and output."""

from collections.abc import Iterator
from typing import Any

import httpx2
from fastapi import FastAPI

from timberframe.testing.cast import ADMIN
from timberframe.testing.routes import DECIDED, Route, fields_of, routes


async def bodies() -> list[tuple[Route, set[str]]]:
    """Each route, and the fields that the table says its body has."""
    found = []
    for route in routes():
        body = (await route.valid(ADMIN)).get("json")
        found.append((route, (set(body) if isinstance(body, dict) else set()) | route.takes))
    return found


def wrong_fields(document: dict[str, Any], route: Route, takes: set[str]) -> Iterator[str]:
    """Where the table and the OpenAPI document differ; one who forgot a field reads it."""
    documented, has_others = fields_of(document, route.body_in(document))
    for name in sorted(documented - takes):
        yield f"{route.label} takes {name}, and the table of routes does not say so"
    for name in sorted(takes - documented if not has_others else ()):
        yield f"{route.label} does not take {name}: its schema lacks it, or the table is wrong"
    documented, has_others = fields_of(document, route.answer_in(document), is_deep=True)
    for name in sorted(route.shows - documented if not has_others else ()):
        yield f"{route.label} does not show {name}: its schema lacks it, or the table is wrong"
    if route.resource and route.method == "POST":
        taken = takes | route.resource.update_only
        expected = (taken - route.resource.write_only) | route.resource.read_only
        expected |= route.resource.shown_once
        shown, _ = fields_of(document, route.answer_in(document))
        for name in sorted(expected - shown):
            yield f"{route.label} does not show {name}: its schema lacks it, or it is write_only"
        for name in sorted(shown - expected - DECIDED):
            yield f"{route.label} shows {name} and does not take it, or it is read_only"


async def test_every_field_is_in_each_schema_that_should_have_it(
    app: FastAPI, admin: httpx2.AsyncClient
) -> None:
    document = app.openapi()
    wrong = [
        each for route, takes in await bodies() for each in wrong_fields(document, route, takes)
    ]
    assert not wrong, "\n".join(wrong)
