"""If-Match and If-None-Match of every route that changes a row: RFC 9110 section 13."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from timberframe.testing.cast import ADMIN
from timberframe.testing.routes import WRITES, Route, routes, said
from timberframe.testing.subject import change_state


async def changes(admin: httpx2.AsyncClient) -> AsyncIterator[tuple[Route, str, Any]]:
    """Each route that changes a row, the path of a new row, and a body that changes it."""
    for route in routes():
        if route.method in WRITES and route.is_versioned:
            body = (await route.valid(ADMIN)).get("json") if route.json else None
            if body is None and route.resource and route.method != "DELETE":
                body = await route.resource.change(admin)
            yield route, route.url(await route.ids(admin)), body


def test_document_says_which_changes_have_preconditions(app: FastAPI) -> None:
    document = app.openapi()
    for route in [route for route in routes() if route.method in WRITES]:
        parameters = route.operation_in(document)["parameters"]
        names = {each["name"] for each in parameters} & {"If-Match", "If-None-Match"}
        assert bool(names) == route.is_versioned, route.label


def etags_of_others(etag: str) -> list[str]:
    return [
        '"99"',
        'W/"99"',
        etag.strip('"'),
        '"',
        "",
        "W/*",
        '*, "99"',
        f"{etag[:-1]}9-gzip",
        f'{etag[:-1]}-gzip-tar"',
        f'"-gzip{etag[1:]}',
        f'"{"-gzip" * 10_000}',
        f'{etag[:-1]}{"-gzip" * 10_000}x"',
    ]


async def test_change_of_another_state_is_refused(admin: httpx2.AsyncClient) -> None:
    async for route, path, body in changes(admin):
        before = await admin.get(path)
        etag = before.headers["etag"]
        for wrong in etags_of_others(etag):
            headers = {"If-Match": wrong}
            answer = await admin.request(route.method, path, json=body, headers=headers)
            assert answer.status_code == 412, f"{wrong[:50]}: {said(answer)}"
            assert answer.json()["code"] == "precondition_failed"
        assert (await admin.get(path)).json() == before.json()
        headers = {"If-Match": f'"99", {etag}'}
        answer = await admin.request(route.method, path, json=body, headers=headers)
        assert answer.status_code in (200, 204), said(answer)
        answer = await admin.request(route.method, path, json=body, headers={"If-Match": etag})
        assert answer.status_code in (404, 412), said(answer)


async def test_precondition_can_be_required(
    app: FastAPI, admin: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async for route, path, body in changes(admin):
        with monkeypatch.context() as patch:
            change_state(app, patch, "options", is_if_match_required=True)
            answer = await admin.request(route.method, path, json=body)
            assert answer.status_code == 428, said(answer)
            assert answer.json()["code"] == "precondition_required"
            if route.method != "DELETE":
                headers = {"If-Match": "*"}
                answer = await admin.request(route.method, path, json=body, headers=headers)
                assert answer.status_code == 200, said(answer)
            headers = {"If-Match": (await admin.get(path)).headers["etag"]}
            answer = await admin.request(route.method, path, json=body, headers=headers)
            assert answer.status_code in (200, 204), said(answer)


async def test_change_unless_a_state_is_there(admin: httpx2.AsyncClient) -> None:
    async for route, path, body in changes(admin):
        before = await admin.get(path)
        etag = before.headers["etag"]
        for there in ("*", etag, f"W/{etag}", f'"99", {etag}'):
            for others in ({}, {"If-Match": etag}):
                headers = {"If-None-Match": there} | others
                answer = await admin.request(route.method, path, json=body, headers=headers)
                assert answer.status_code == 412, f"{headers}: {said(answer)}"
                assert answer.json()["code"] == "precondition_failed"
        assert (await admin.get(path)).json() == before.json()
        headers = {"If-None-Match": '"99"'}
        answer = await admin.request(route.method, path, json=body, headers=headers)
        assert answer.status_code in (200, 204), said(answer)
