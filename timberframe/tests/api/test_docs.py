"""The documentation: pages without foreign assets, and a schema that says what is true."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import httpx2
import pytest

from specimen.config import settings
from specimen.main import app
from timberframe.http.docs import ASSETS
from timberframe.testing import ADMIN, create_app

PAGES = ("/api/docs", "/api/redoc")
LINKS = {"src", "href", "action", "data"}
URL = re.compile(r"""["'(=]\s*((?:https?:)?//[^"')\s>]+)""")


class Page(HTMLParser):
    """What a page refers to, and the scripts that stand in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.inline_nonces: list[str | None] = []
        self.has_handlers = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.links += [value for name, value in attrs if name in LINKS and value]
        self.has_handlers |= any(name.startswith("on") for name in found)
        if tag == "script" and "src" not in found:
            self.inline_nonces.append(found.get("nonce"))


def browser(app: Any = app, **headers: str) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app), base_url="http://testserver", headers=headers
    )


@pytest.mark.parametrize("path", PAGES)
async def test_page_and_all_that_it_loads_come_from_here(path: str) -> None:
    async with browser() as client:
        answer = await client.get(path)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert URL.findall(answer.text) == []
        page = Page(answer.text)
        quoted = re.findall(r"""["'](/api/[^"']+)["']""", answer.text)
        assert "/api/openapi.json" in quoted
        for link in {*page.links, *quoted}:
            assert link.startswith("/api/")
            asset = await client.get(link)
            assert asset.status_code == 200, link
            assert asset.headers["x-content-type-options"] == "nosniff"
            if link.endswith((".js", ".css")):
                assert asset.headers["content-type"].split(";")[0] in (
                    "text/javascript",
                    "text/css",
                )


async def test_logo_of_redoc_comes_from_here_too() -> None:
    foreign = b"https://cdn.redoc.ly/redoc/logo-mini.svg"
    assert foreign in (ASSETS / "redoc.standalone.js").read_bytes()
    async with browser() as client:
        page = Page((await client.get("/api/redoc")).text)
        script = await client.get(next(link for link in page.links if link.endswith(".js")))
    assert script.status_code == 200
    assert b"cdn.redoc.ly" not in script.content
    assert b'"/api/docs/assets/favicon.png"' in script.content


@pytest.mark.parametrize("path", PAGES)
async def test_only_scripts_of_the_page_run(path: str) -> None:
    nonces = set()
    async with browser() as client:
        for _ in range(2):
            answer = await client.get(path)
            assert answer.headers.get_list("content-security-policy") == [
                answer.headers["content-security-policy"]
            ]
            rules = answer.headers["content-security-policy"].split("; ")
            policy = {name: values for name, *values in map(str.split, rules)}
            assert policy["default-src"] == ["'self'"]
            for name in ("object-src", "base-uri", "frame-ancestors"):
                assert policy[name] == ["'none'"]
            assert policy["form-action"] == ["'self'"]
            own, nonce = policy["script-src"]
            assert own == "'self'"
            page = Page(answer.text)
            assert not page.has_handlers
            expected = {nonce.removeprefix("'nonce-").removesuffix("'")}
            assert set(page.inline_nonces) <= expected
            nonces |= expected
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["cross-origin-opener-policy"] == "same-origin"
    assert len(nonces) == 2
    assert all(len(nonce) >= 22 for nonce in nonces)


async def test_swagger_starts_by_its_nonce() -> None:
    async with browser() as client:
        assert len(Page((await client.get("/api/docs")).text).inline_nonces) == 1


@pytest.mark.parametrize("headers", [{}, ADMIN.headers], ids=["anonymous", "admin"])
async def test_documentation_can_be_switched_off(
    monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]
) -> None:
    monkeypatch.setattr(settings, "DOCS_ENABLED", False)
    paths = (*PAGES, "/api/openapi.json", "/api/redoc/redoc.js", "/docs", "/redoc")
    async with browser(create_app(), **headers) as client:
        for path in (*paths, "/api/docs/assets/favicon.png", "/openapi.json", "/api/docs/"):
            answer = await client.get(path)
            assert answer.status_code == 404, path
            assert answer.headers["content-type"] == "application/problem+json"
        assert (await client.get("/health")).status_code == 200


async def test_pages_outside_api_do_not_exist() -> None:
    async with browser() as client:
        for path in ("/docs", "/redoc", "/openapi.json", "/docs/oauth2-redirect"):
            assert (await client.get(path)).status_code == 404, path


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return create_app().openapi()


def operations(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path in schema["paths"].values():
        yield from path.values()


async def test_served_schema_is_openapi_3_1(schema: dict[str, Any]) -> None:
    async with browser() as client:
        answer = await client.get("/api/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == schema
    assert schema["openapi"].startswith("3.1.")


def test_server_and_tags_are_named(schema: dict[str, Any]) -> None:
    assert schema["servers"] == [{"url": "/"}]
    assert schema["info"]["contact"]
    described = {tag["name"] for tag in schema["tags"] if tag["description"]}
    assert described == {tag for operation in operations(schema) for tag in operation["tags"]}
    assert all(operation["summary"] and operation["tags"] for operation in operations(schema))


def test_public_routes_say_that_they_need_no_token(schema: dict[str, Any]) -> None:
    public = {each["operationId"] for each in operations(schema) if not each["security"]}
    assert public >= {"login", "health_check"}
    assert "create_product" not in public


def test_every_answer_names_its_headers(schema: dict[str, Any]) -> None:
    components = schema["components"]["headers"]
    for operation in operations(schema):
        for status, response in operation["responses"].items():
            headers = response["headers"]
            assert {"X-Request-ID", "Cache-Control", "Vary"} <= headers.keys()
            assert ("Accept-Encoding" in headers) == (status == "415")
            assert ("WWW-Authenticate" in headers) == (status == "401")
            assert ("Retry-After" in headers) == (status in ("409", "429", "503"))
            for name, header in headers.items():
                if name not in ("Link", "Location"):  # their examples are of the route itself
                    assert header == {"$ref": f"#/components/headers/{name}"}
                    header = components[name]
                assert header["description"]
                assert header["schema"]["examples"]
    answers = {each["operationId"]: each["responses"] for each in operations(schema)}
    assert {"ETag", "Location", "Idempotency-Replayed"} <= (
        answers["create_product"]["201"]["headers"].keys()
    )
    link = answers["read_stock_movements"]["200"]["headers"]["Link"]
    path = f"{settings.API_V1_PREFIX}/products/1/stock-movements"
    assert link["schema"]["examples"] == [f'<{path}?cursor=abc>; rel="next"']
    location = answers["create_product"]["201"]["headers"]["Location"]
    assert location["schema"]["examples"] == [f"{settings.API_V1_PREFIX}/products/1"]
    assert "ETag" in answers["read_product"]["304"]["headers"]
    assert "Content-Disposition" in answers["export_products"]["200"]["headers"]


def test_conditions_are_documented_wherever_a_row_has_a_version(schema: dict[str, Any]) -> None:
    names = {"If-Match", "If-None-Match"}
    for path in schema["paths"].values():
        reads = path.get("get", {"responses": {}})["responses"].values()
        is_versioned = any("ETag" in each["headers"] for each in reads)
        for method, operation in path.items():
            conditions = {each["name"] for each in operation["parameters"]} & names
            has_conditions = is_versioned and method != "post"
            assert conditions == (names if has_conditions else set()), operation["operationId"]
            assert ("412" in operation["responses"]) == has_conditions
            assert ("428" in operation["responses"]) == (has_conditions and method != "get")


def test_lists_with_a_cursor_may_refuse_it(schema: dict[str, Any]) -> None:
    for path in schema["paths"].values():
        if operation := path.get("get"):
            takes_cursor = "cursor" in {each["name"] for each in operation["parameters"]}
            assert ("400" in operation["responses"]) == takes_cursor, operation["operationId"]


def test_what_cannot_be_changed_is_read_only(schema: dict[str, Any]) -> None:
    components = schema["components"]["schemas"]
    read_only = {
        name: {
            field for field, each in components[name]["properties"].items() if "readOnly" in each
        }
        for name in ("Product", "User")
    }
    decided = {"id", "created_at", "updated_at"}
    assert read_only["Product"] == decided | {"owner_id"}
    assert read_only["User"] == decided | {"username"}
    for path in schema["paths"].values():
        if "put" in path:
            assert "stay as they are" in path["put"]["description"]


def test_every_error_is_documented_as_a_problem(schema: dict[str, Any]) -> None:
    problem = {"schema": {"$ref": "#/components/schemas/Problem"}}
    assert "Problem" in schema["components"]["schemas"]
    assert "ValidationError" not in schema["components"]["schemas"]
    for operation in operations(schema):
        responses = operation["responses"]
        assert "default" in responses
        assert ("401" in responses) >= bool(operation["security"])
        for status, response in responses.items():
            if status[0] in "45d":
                assert response["content"] == {"application/problem+json": problem}
                assert response["description"]


def test_only_the_form_of_oauth_takes_unknown_fields(schema: dict[str, Any]) -> None:
    for operation in operations(schema):
        for content in operation.get("requestBody", {}).get("content", {}).values():
            if content["schema"].get("type") == "string":
                continue  # a file
            name = content["schema"]["$ref"].rsplit("/", 1)[1]
            takes_others = schema["components"]["schemas"][name].get("additionalProperties", True)
            assert takes_others == (name == "LoginForm"), name
