"""Routes that parse requests strictly (ids are digits, JSON is RFC 8259) and retry conflicts."""

import inspect
import re
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextvars import ContextVar
from functools import partial, wraps
from json import JSONDecodeError
from typing import Any, get_origin
from weakref import WeakKeyDictionary

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError, ResponseValidationError
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts
from starlette.convertors import Convertor, register_url_convertor
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from timberframe.crud.results import Created, Slice, Stored
from timberframe.data.base import MAX_ID
from timberframe.data.retries import TransactionConflict, retrying
from timberframe.errors import Unavailable, WrongDeclaration
from timberframe.http.answers import (
    answer_with,
    describe,
    end_line,
    flush_returned,
    wrong_fields,
    wrong_return,
)
from timberframe.http.dependencies import SAFE_METHODS, units_of_work
from timberframe.http.direct import WatchedClient, direct_app
from timberframe.http.exchange import exchange_of
from timberframe.http.idempotency import give_kept_answer, keep_answer
from timberframe.http.signatures import check_handler
from timberframe.security import strict_json


class IdConvertor(Convertor[int]):
    """`{user_id:id}`: only digits match, so `/users/me` is never taken for an id."""

    regex = f"[0-9]{{1,{len(str(MAX_ID))}}}"

    def convert(self, value: str) -> int:
        return int(value)

    def to_string(self, value: int) -> str:
        return str(value)


register_url_convertor("id", IdConvertor())

_PARAMETER = re.compile("{[^}]*}")
_ID = re.compile(r"(?<=/)[0-9]+(?=/|\Z)")

# By handler: one may serve both PUT and PATCH.
_methods: WeakKeyDictionary[Callable[..., Any], set[str]] = WeakKeyDictionary()

_request: ContextVar["StrictRequest"] = ContextVar("_request")


class LineRoute(APIRoute):
    """A route whose JSON ends with a newline, as all of ours does."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_then_end(request: Request) -> Response:
            response = await handle(request)
            end_line(response)
            return response

        return handle_then_end


class Route(LineRoute):
    """A route that accepts only UTF-8, no NaN or Infinity, and no duplicate names in an object.

    Otherwise two parsers could read one body differently. After a conflict between transactions
    the whole request is retried without the client noticing. Headers of the answer describe what
    the handler returned.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        check_handler(path, endpoint, options.get("response_model"))
        super().__init__(path, _handled(endpoint), **options)
        _methods.setdefault(endpoint, set()).update(self.methods or ())
        if len(units_of_work(self.dependant)) > 1:
            raise TypeError(
                f"{path}: use DbSession or DbWrite, not both: one would wait for the other"
            )
        returned = returned_by(endpoint, Created, Stored, Slice)
        if returned:
            self._check_obeyed(returned)
        self._is_read = self.methods == {"GET"} and returned in (Stored, Slice)

    def _check_obeyed(self, returned: type) -> None:
        """Raise for options of the route that have no effect on an answer that is JSON already."""
        status_code = 201 if returned is Created else 200
        if (self.status_code or 200) != status_code:
            raise WrongDeclaration(
                f"{self.path}: {returned.__name__} is answered with {status_code}, so the route"
                f" needs status_code={status_code}"
            )
        shaping = {
            name: getattr(self, name)
            for name in (
                "response_model_include",
                "response_model_exclude",
                "response_model_exclude_unset",
                "response_model_exclude_defaults",
                "response_model_exclude_none",
            )
        }
        if stated := [name for name, value in shaping.items() if value]:
            raise WrongDeclaration(
                f"{self.path}: {stated[0]} has no effect: {returned.__name__} is JSON that the"
                " database made; show fewer fields with another schema"
            )

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
                strict_request.check_json()  # a clearer error than a missing body
                raise
            except ResponseValidationError as wrong:
                returned = exchange_of(request).returned
                raise wrong_fields(self.name, returned, self.response_model, wrong) from None
            response = describe(strict_request, response, exchange_of(request).returned)
            await keep_answer(strict_request, response)
            return response

        return handle_strictly


def _handled(handler: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
    """Call the handler unless there is a kept answer, and note what it returns.

    All dependencies have passed by then, so a caller who has lost a right gets no kept answer.
    """

    promised = returned_by(handler, Created, Stored, Slice)
    is_list = promised is Slice

    @wraps(handler)
    async def handle(**arguments: Any) -> Any:
        request = _request.get()
        request.check_json()
        give_kept_answer(request)
        if is_list:
            with WatchedClient(request.receive) as client:
                returned = await handler(**arguments)
            if client.is_gone:
                return Response(status_code=499)  # which nobody gets
        else:
            returned = await handler(**arguments)
        exchange_of(request).returned = returned
        answer = answer_with(returned)
        if answer is returned:
            is_wrong = promised and not isinstance(returned, Response)
            if is_wrong or inspect.iscoroutine(returned):
                raise wrong_return(handler, returned, promised)
            if request.method not in SAFE_METHODS:  # their sessions are read-only
                await flush_returned(returned)
        else:
            for injected in arguments.values():
                if isinstance(injected, Response):
                    # FastAPI adds these headers only to answers that it makes itself.
                    answer.raw_headers.extend(injected.raw_headers)
        return answer

    return handle


def returned_by(handler: Callable[..., Any], *types: type) -> type | None:
    """The one of `types` that a handler is annotated to return: `Stored` in `Stored[Product]`."""
    annotation = inspect.signature(inspect.unwrap(handler)).return_annotation
    returned = get_origin(annotation) or annotation
    return returned if returned in types else None


def shares_handler_with_put(route: APIRoute) -> bool:
    shared = _methods.get(inspect.unwrap(route.endpoint), ())
    return route.methods == {"PATCH"} and "PUT" in shared


class Router(APIRouter):
    """FastAPI's router, with routes that are strict about input and retried after a conflict."""

    def __init__(self, **options: Any) -> None:
        super().__init__(route_class=Route, **options)

    def add_api_route(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        before = len(self.routes)
        super().add_api_route(path, endpoint, **options)
        [added] = self.routes[before:]
        for earlier in self.routes[:before]:
            if isinstance(earlier, APIRoute) and isinstance(added, APIRoute):
                _check_distinct(earlier, added)


def _check_distinct(earlier: APIRoute, added: APIRoute) -> None:
    """Raise if a route could never answer. Routes of another router may be replaced on purpose."""
    patterns = {_PARAMETER.sub("{}", each.path_format) for each in (earlier, added)}
    if len(patterns) == 1 and (methods := set(earlier.methods or ()) & set(added.methods or ())):
        raise WrongDeclaration(
            f"{min(methods)} {added.path_format} is the route of {earlier.name} already, so"
            f" {added.name} would never answer: change the path or the method of one of them"
        )


class StrictRequest(Request):
    _malformed: JSONDecodeError | None = None

    async def json(self) -> Any:
        """Return None for malformed JSON.

        FastAPI reads the body first, and would refuse it before the dependencies have checked
        whether the caller may send one.
        """
        try:
            sent = exchange_of(self).sent = strict_json.loads(await self._text())
        except JSONDecodeError as malformed:
            self._malformed = malformed
            return None
        return sent

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
    """Finds the route of a path by one lookup; FastAPI tries all included routers in turn, twice.

    The routes behind it handle what it does not find: redirects, 404, 405. They also handle
    requests that are traced and tests that override dependencies, which need FastAPI's own steps.
    """

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        first: dict[tuple[str, str], RouteContext] = {}
        for route in iter_route_contexts(routes):
            for method in route.methods or ():
                key = method, _PARAMETER.sub("0", route.path_format or "")
                first.setdefault(key, route)
        self._routes = {k: r for k, r in first.items() if isinstance(r.original_route, Route)}
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


class RepeatableRequest:
    """Replays the body to each attempt; once the answer has begun, there are no more attempts."""

    def __init__(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        self._app = app
        self._scope = scope
        self._receive = receive
        self._send = send
        self._received: list[Message] = []  # bounded by the limit on bodies
        self._is_answered = False

    async def attempt(self) -> None:
        """Run the request; raise `TransactionConflict` if it may be run again."""
        earlier = iter(tuple(self._received))

        async def receive() -> Message:
            return next(earlier, None) or await self._receive_new()

        try:
            await self._app(self._scope, receive, self._send_noting)
        except TransactionConflict as conflict:
            if self._is_answered:  # the conflict was in a background task
                raise Unavailable("The database") from conflict
            raise

    async def _receive_new(self) -> Message:
        message = await self._receive()
        self._received.append(message)
        return message

    async def _send_noting(self, message: Message) -> None:
        self._is_answered = True
        await self._send(message)
