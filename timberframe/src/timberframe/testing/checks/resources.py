"""What every list and every row does, whatever their fields are."""

from typing import Any

import httpx2
from fastapi import FastAPI

from timberframe.testing.cast import ADMIN
from timberframe.testing.routes import DECIDED, Route, routes, said

ENDLESS = "9" * 5000


async def test_number_that_is_no_key_finds_nothing(admin: httpx2.AsyncClient) -> None:
    for route in [route for route in routes() if route.parameters]:
        sent = await route.valid(ADMIN)
        for key in (-1, 0, 2**31, 2**63, ENDLESS):
            url = route.url(dict.fromkeys(route.parameters, key))
            answer = await admin.request(route.method, url, **sent)
            expected = (404, 422) if key is ENDLESS else (404,)
            assert answer.status_code in expected, said(answer)


def bounds_of(operation: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """The smallest and the largest `skip` and `limit` of a list."""
    return {
        each["name"]: (each["schema"]["minimum"], each["schema"]["maximum"])
        for each in operation["parameters"]
        if each["name"] in ("skip", "limit")
    }


async def test_every_list_bounds_its_slices(app: FastAPI, admin: httpx2.AsyncClient) -> None:
    document = app.openapi()
    for route in [route for route in routes() if route.method == "GET"]:
        url = route.url(await route.ids(admin))
        for name, (least, most) in bounds_of(route.operation_in(document)).items():
            for number in (least, most, least - 1, most + 1, 2**63, "1.5", ""):
                answer = await admin.get(url, params={name: str(number)})
                expected = 200 if number in (least, most) else 422
                assert answer.status_code == expected, said(answer)


def puts() -> list[Route]:
    return [route for route in routes() if route.method == "PUT"]


async def test_put_of_what_get_gave_changes_nothing(admin: httpx2.AsyncClient) -> None:
    for route in puts():
        url = route.url(await route.ids(admin))
        before = await admin.get(url)
        answer = await admin.put(url, json=before.json())
        assert (answer.status_code, answer.json()) == (200, before.json()), said(answer)
        assert answer.headers["etag"] == before.headers["etag"]


async def test_put_of_a_row_with_other_values_changes_these(admin: httpx2.AsyncClient) -> None:
    for route in puts():
        if route.resource:
            url = route.url(await route.ids(admin))
            row = (await admin.get(url)).json()
            changes = await route.resource.change(admin)
            sent = row | {name: value for name, value in changes.items() if name in row}
            answer = await admin.put(url, json=sent)
            assert answer.status_code == 200, said(answer)
            assert answer.json() == sent | {"updated_at": answer.json()["updated_at"]}


async def test_other_value_of_what_cannot_change_is_named(admin: httpx2.AsyncClient) -> None:
    for route in puts():
        if route.resource:
            fixed = DECIDED | route.resource.read_only | route.resource.create_only
            url = route.url(await route.ids(admin))
            row = (await admin.get(url)).json()
            for name in sorted(fixed & row.keys()):
                answer = await admin.put(url, json=row | {name: -2})
                assert answer.status_code == 422, said(answer)
                assert [error["loc"] for error in answer.json()["errors"]] == [["body", name]]
            assert (await admin.get(url)).json() == row


def test_every_create_and_change_takes_an_idempotency_key(app: FastAPI) -> None:
    document = app.openapi()
    for route in [route for route in routes() if route.resource]:
        names = {each["name"] for each in route.operation_in(document)["parameters"]}
        takes_key = route.method in ("POST", "PATCH")
        assert ("Idempotency-Key" in names) == takes_key, route.label
