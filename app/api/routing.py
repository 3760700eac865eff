"""How requests are read and run: identifiers are digits, JSON is RFC 8259 to the letter."""

from collections import defaultdict
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts
from starlette.convertors import Convertor, register_url_convertor
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.idempotency import keep_answer
from app.api.representation import describe, noting_what_it_returns
from app.api.retries import RepeatableRequest
from app.core import strict_json
from app.db.base import MAX_ID
from app.db.retries import retrying


class IdConvertor(Convertor[int]):
    """`{user_id:id}`: what is no identifier matches no route, so that `/users/me` is never one."""

    regex = f"[0-9]{{1,{len(str(MAX_ID))}}}"

    def convert(self, value: str) -> int:
        return int(value)

    def to_string(self, value: int) -> str:
        return str(value)


register_url_convertor("id", IdConvertor())


class StrictRoute(APIRoute):
    """A route that takes UTF-8 alone, no NaN or Infinity, and no name twice in one object.

    Otherwise two parsers could see two things in one body. After a conflict between transactions
    the whole request runs again, unseen by the client. What the handler returns is described in
    the headers of the answer.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, noting_what_it_returns(endpoint), **options)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _run_repeatably(super().handle, scope, receive, send)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_strictly(request: Request) -> Response:
            strict_request = StrictRequest(request.scope, request.receive)
            response = describe(strict_request, await handle(strict_request))
            await keep_answer(strict_request, response)
            return response

        return handle_strictly


class StrictRequest(Request):
    async def json(self) -> Any:
        try:
            text = (await self.body()).decode()
        except UnicodeDecodeError:
            strict_json.refuse("Not UTF-8")
        return strict_json.loads(text)


class RouteIndex(BaseRoute):
    """Finds the route of a path at once; FastAPI asks all included routers, one by one and twice.

    What it does not find is left to the routes behind it: other methods, redirects, 404.
    """

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        self._fixed: dict[str, list[RouteContext]] = defaultdict(list)
        self._with_ids: dict[int, list[RouteContext]] = defaultdict(list)
        for route in iter_route_contexts(routes):
            if isinstance(route.original_route, StrictRoute) and route.path:
                if "{" in route.path:
                    self._with_ids[route.path.count("/")].append(route)
                else:
                    self._fixed[route.path].append(route)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] == "http":
            path = scope["path"].removeprefix(scope.get("root_path", ""))
            for route in self._fixed.get(path) or self._with_ids.get(path.count("/")) or ():
                match, child_scope = route.matches(scope)
                if match is Match.FULL:
                    return match, child_scope | {"route": route}
        return Match.NONE, {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _run_repeatably(scope["route"].app, scope, receive, send)


async def _run_repeatably(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await retrying(RepeatableRequest(app, scope, receive, send).attempt)
