"""The routes of an application as a list, and which of them answers a request."""

import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from fastapi import FastAPI
from fastapi.routing import APIRoute, APIWebSocketRoute, RouteContext, iter_route_contexts
from starlette.routing import Match, WebSocketRoute

from timberframe.http.access import Access, access_of, guards_of
from timberframe.http.routing import RouteIndex

_FRAME = Path(__file__).parents[1]
_PARAMETER = re.compile("{[^}]*}")
# Values of parameters: whatever a route takes, it takes one of them.
_SAMPLES = ("1", "a", "a/b", "1.5", "00000000-0000-4000-8000-000000000000")


class ListedRoute(NamedTuple):
    """One method of a route, WS for a websocket; `file` and `line` are where its handler begins."""

    method: str
    path: str
    access: Access
    guards: tuple[str, ...]
    handler: str
    file: Path | None
    line: int
    endpoint: Callable[..., Any]

    @property
    def is_of_frame(self) -> bool:
        return self.file is None or self.file.is_relative_to(_FRAME)


def list_routes(app: FastAPI) -> Iterator[ListedRoute]:
    """All routes in the order in which they are tried."""
    for route in _contexts(app):
        yield from _rows_of(route)


def find_route(app: FastAPI, method: str, path: str) -> ListedRoute | None:
    """The route that answers such a request, or None."""
    scope = _scope(app, method, path)
    for index in app.router.routes:
        if isinstance(index, RouteIndex):
            match, found = index.matches(scope)
            if match is Match.FULL:
                return _row_of(found["route"], method)
    for route in _contexts(app):
        if route.matches(scope)[0] is Match.FULL:
            return _row_of(route, method)
    return None


def unused_routes(app: FastAPI) -> Iterator[tuple[ListedRoute, ListedRoute]]:
    """Each route that no request reaches, with the one that answers instead of it."""
    for route in _contexts(app):
        for row in _rows_of(route):
            paths = {_PARAMETER.sub(sample, row.path) for sample in _SAMPLES}
            matching = [
                path
                for path in sorted(paths)
                if route.matches(_scope(app, row.method, path))[0] is Match.FULL
            ]
            answering = [find_route(app, row.method, path) for path in matching]
            others = [each for each in answering if each and each.endpoint is not row.endpoint]
            if others and len(others) == len(matching):
                yield row, others[0]


def _scope(app: FastAPI, method: str, path: str) -> dict[str, Any]:
    return {
        "type": "http",
        "method": method,
        "path": path,
        "root_path": "",
        "headers": [],
        "query_string": b"",
        "app": app,
    }


def _contexts(app: FastAPI) -> Iterator[RouteContext]:
    routes = [route for route in app.router.routes if not isinstance(route, RouteIndex)]
    return iter_route_contexts(routes)


def _row_of(route: RouteContext, method: str) -> ListedRoute | None:
    return next((row for row in _rows_of(route) if row.method == method), None)


def _rows_of(route: RouteContext) -> Iterator[ListedRoute]:
    endpoint = route.endpoint
    if endpoint is None or route.path_format is None:  # mounted files
        return
    handler = inspect.unwrap(endpoint)
    access: Access = "public"
    guards: tuple[str, ...] = ()
    if isinstance(route.original_route, (APIRoute, APIWebSocketRoute)):
        access, guards = access_of(route.dependant), tuple(guards_of(route.dependant))
    is_websocket = isinstance(route.original_route, WebSocketRoute)
    methods = {"WS"} if is_websocket else set(route.methods or ())
    if "GET" in methods:
        methods.discard("HEAD")  # answered as GET
    for method in sorted(methods):
        yield ListedRoute(
            method,
            route.path_format,
            access,
            guards,
            getattr(handler, "__name__", type(handler).__name__),
            *_place_of(handler),
            handler,
        )


def _place_of(handler: Callable[..., Any]) -> tuple[Path | None, int]:
    code = getattr(handler, "__code__", None)
    return (Path(code.co_filename), code.co_firstlineno) if code else (None, 0)
