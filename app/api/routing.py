"""How requests are read and run: identifiers are digits, JSON is RFC 8259 to the letter."""

import re
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextvars import ContextVar
from functools import partial, wraps
from json import JSONDecodeError
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.convertors import Convertor, register_url_convertor
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.direct import direct_app
from app.api.idempotency import give_kept_answer, keep_answer
from app.api.representation import answer_with, describe, end_line
from app.api.retries import RepeatableRequest
from app.core import strict_json
from app.db.base import MAX_ID
from app.db.retries import retrying
from app.dependencies import units_of_work


class IdConvertor(Convertor[int]):
    """`{user_id:id}`: what is no identifier matches no route, so that `/users/me` is never one."""

    regex = f"[0-9]{{1,{len(str(MAX_ID))}}}"

    def convert(self, value: str) -> int:
        return int(value)

    def to_string(self, value: int) -> str:
        return str(value)


register_url_convertor("id", IdConvertor())

_PARAMETER = re.compile("{[^}]*}")
_ID = re.compile(r"(?<=/)[0-9]+(?=/|\Z)")

_request: ContextVar["StrictRequest"] = ContextVar("_request")
_returned: ContextVar[Any] = ContextVar("_returned", default=None)


class LineRoute(APIRoute):
    """A route whose JSON ends with a newline, as all of ours does."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_then_end(request: Request) -> Response:
            response = await handle(request)
            end_line(response)
            return response

        return handle_then_end


class StrictRoute(LineRoute):
    """A route that takes UTF-8 alone, no NaN or Infinity, and no name twice in one object.

    Otherwise two parsers could see two things in one body. After a conflict between transactions
    the whole request runs again, unseen by the client. What the handler returns is described in
    the headers of the answer.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, _handled(endpoint), **options)
        if len(units_of_work(self.dependant)) > 1:
            raise TypeError(f"{path}: DbSession or DbWrite, or one would wait for the other")

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _run_repeatably(super().handle, scope, receive, send)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_strictly(request: Request) -> Response:
            strict_request = StrictRequest(request.scope, request.receive)
            _request.set(strict_request)
            try:
                response = await handle(strict_request)
            except RequestValidationError:
                strict_request.check_json()  # more to the point than that a body is missing
                raise
            response = describe(strict_request, response, _returned.get())
            await keep_answer(strict_request, response)
            return response

        return handle_strictly


def _handled(handler: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
    """Call the handler unless there is a kept answer, and note what it returns.

    All dependencies have passed by then: who has lost a right gets no kept answer.
    """

    @wraps(handler)
    async def handle(**arguments: Any) -> Any:
        _request.get().check_json()
        give_kept_answer(_request.get())
        returned = await handler(**arguments)
        _returned.set(returned)
        return answer_with(returned)

    return handle


class StrictRequest(Request):
    _malformed: JSONDecodeError | None = None

    async def json(self) -> Any:
        """None for what is malformed: FastAPI reads the body first, and would refuse it before
        the dependencies have found out whether the caller may send one.
        """
        try:
            self.state.sent = strict_json.loads(await self._text())
        except JSONDecodeError as malformed:
            self._malformed = malformed
            return None
        return self.state.sent

    def check_json(self) -> None:
        """Raise, as FastAPI would have, if the body is malformed."""
        if self._malformed:
            error = {
                "type": "json_invalid",
                "loc": ("body", self._malformed.pos),
                "msg": "JSON decode error",
                "input": {},
                "ctx": {"error": self._malformed.msg},
            }
            raise RequestValidationError([error], body=self._malformed.doc) from self._malformed

    async def _text(self) -> str:
        try:
            return (await self.body()).decode()
        except UnicodeDecodeError:
            strict_json.refuse("Not UTF-8")


class RouteIndex(BaseRoute):
    """Finds the route of a path at once; FastAPI asks all included routers, one by one and twice.

    What it does not find is left to the routes behind it: redirects, 404, 405; and so is a request
    that is traced, or of a test with other dependencies, which need each of FastAPI's steps.
    """

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        self._routes = {
            (method, _PARAMETER.sub("0", route.path_format)): route
            for route in iter_route_contexts(routes)
            if isinstance(route.original_route, StrictRoute) and route.path_format
            for method in route.methods or ()
        }
        self._apps: dict[tuple[str, str], ASGIApp] = {
            key: direct_app(route) or partial(_run_repeatably, route.app)
            for key, route in self._routes.items()
        }

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] == "http" and "fastapi.telemetry" not in scope:
            path = scope["path"].removeprefix(scope.get("root_path", ""))
            key = scope["method"], _ID.sub("0", path)
            route = self._routes.get(key)
            if route and not scope["app"].dependency_overrides:
                match, child_scope = route.matches(scope)
                if match is Match.FULL:
                    return match, child_scope | {"route": route, "route_app": self._apps[key]}
        return Match.NONE, {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await scope["route_app"](scope, receive, send)


async def _run_repeatably(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await retrying(RepeatableRequest(app, scope, receive, send).attempt)
