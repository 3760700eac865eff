"""`routes`: who may call each route is what the table of routes says, and what tests of it show."""

import json

import pytest
from fastapi import APIRouter, FastAPI, WebSocket

from specimen.config import Settings
from timberframe.commands.routes import show_unused
from timberframe.http.listing import list_routes
from timberframe.routes import CurrentUser
from timberframe.testing import call_command
from timberframe.testing.routes import EVERYBODY, PUBLIC, SIGNED_IN, SUPERUSER, Access, routes


def name_of(access: Access) -> str:
    named = {PUBLIC: "public", EVERYBODY: "everybody", SIGNED_IN: "signed-in"}
    return named.get(access) or ("superuser" if access == SUPERUSER else "owner")


def test_access_is_what_the_table_of_routes_says() -> None:
    listed = json.loads(call_command("routes", "--json").stdout)
    said = {(row["method"], row["path"]): row["access"] for row in listed}
    for route in routes():
        assert said[route.method, route.full_path] == name_of(route.access), route.label


def test_line_names_the_handler_and_its_place() -> None:
    result = call_command("routes", "-g", "RESTORE")
    head, line = result.stdout.splitlines()
    assert head.split() == ["METHOD", "PATH", "ACCESS", "HANDLER"]
    method, path, access, place, handler = line.split()
    assert (method, access, handler) == ("POST", "owner", "restore_product")
    assert path == "/api/v1/products/{product_id}/restore"
    file, _, number = place.partition(":")
    assert file == "specimen/endpoints.py"
    below = (Settings.project.root / file).read_text().splitlines()[int(number) - 1 :]
    assert next(each for each in below if "def " in each).startswith("async def restore_product")


def test_check_of_the_application_stands_beside_the_access() -> None:
    result = call_command("routes", "GET", "/api/v1/users/7")
    assert "owner + check_self_or_superuser" in result.stdout
    assert " get_user" not in result.stdout


def test_routes_are_selected_by_access() -> None:
    rows = json.loads(call_command("routes", "--access", "superuser", "--json").stdout)
    assert {row["access"] for row in rows} == {"superuser"}
    assert rows[0]["handler"] == "read_users"
    none = call_command("routes", "-g", "nowhere")
    assert (none.returncode, none.stderr) == (1, "specimen: no route is like that\n")


def test_routes_of_the_frame_are_marked() -> None:
    [row] = json.loads(call_command("routes", "-g", "/health/live", "--json").stdout)
    assert row["is_of_frame"]
    assert row["file"] == "timberframe/http/health.py"
    [row] = json.loads(call_command("routes", "GET", "/api/v1/users/me", "--json").stdout)
    assert not row["is_of_frame"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("POST", "/api/v1/products/7"), "/api/v1/products/7 has no POST: it has GET, "),
        (("GET", "/api/v1/products"), "no route answers GET /api/v1/products: /api/v1/products/ "),
        (("GET", "/nowhere"), "no route answers GET /nowhere\n"),
        (("GET",), "routes GET: the path is missing\n"),
    ],
)
def test_request_without_a_route_is_told_what_there_is(
    arguments: tuple[str, ...], said: str
) -> None:
    result = call_command("routes", *arguments)
    assert result.returncode == 1
    assert result.stderr.startswith(f"specimen: {said}")


def test_websocket_is_listed() -> None:
    router = APIRouter()

    @router.websocket("/echo")
    async def echo(websocket: WebSocket, caller: CurrentUser) -> None:
        await websocket.accept()

    app = FastAPI()
    app.include_router(router, prefix="/things")
    row = next(row for row in list_routes(app) if row.handler == "echo")
    assert (row.method, row.path, row.access) == ("WS", "/things/echo", "signed-in")


def test_route_behind_another_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert call_command("routes", "--unused").stdout == "Every route can be reached\n"
    hiding = APIRouter()

    @hiding.get("/{name}")
    async def read_by_name(name: str) -> str:
        return name

    @hiding.get("/newest")
    async def read_newest() -> str:
        return "newest"

    @hiding.get("/{path:path}")
    async def read_file(path: str) -> str:
        return path

    app = FastAPI()
    app.include_router(hiding, prefix="/things")
    assert show_unused(app, Settings.project.root)
    said = capsys.readouterr().out
    assert said.startswith("GET /things/newest (")
    assert "read_newest): /things/{name} (" in said
    assert said.count("\n") == 1
