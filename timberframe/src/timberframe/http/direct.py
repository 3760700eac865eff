"""Run simple reads directly: FastAPI analyses a route at each request, this does so once.

A GET whose handler returns JSON as the database made it, and whose dependencies are all coroutines,
needs no exit stacks, threads, scopes, body or response model. FastAPI runs all other routes.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from functools import partial
from types import TracebackType
from typing import Any, Self, cast, get_origin

from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import request_params_to_args
from fastapi.exceptions import RequestValidationError
from fastapi.routing import RouteContext
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from timberframe.crud.results import Slice, Stored
from timberframe.data.retries import retrying
from timberframe.http.answers import answer_with, describe, wrong_return

WATCHED_AFTER_SECONDS = 0.05

# `Known` maps the dependencies already called for one request to their results.
Handler = Callable[..., Awaitable[Any]]
Known = dict[Callable[..., Any], Any]
ArgumentsOf = Callable[[Request, Known], Awaitable[dict[str, Any]]]


def direct_app(route: RouteContext) -> ASGIApp | None:
    """The route as an ASGI application, or None if it needs FastAPI."""
    handler = inspect.unwrap(cast(Handler, route.endpoint))
    returned_type = get_origin(inspect.signature(handler).return_annotation)
    if route.methods != {"GET"} or returned_type not in (Stored, Slice):
        return None
    if not _is_plain(route.dependant):
        return None
    arguments_of = _arguments_of(route.dependant)

    async def answer(request: Request) -> Response:
        returned = await handler(**await arguments_of(request, {}))
        response = answer_with(returned)
        if response is returned and not isinstance(returned, Response):
            raise wrong_return(handler, returned, returned_type)
        return describe(request, response, returned)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with WatchedClient(receive) as client:
            response = await retrying(partial(answer, Request(scope, receive)))
        if not client.is_gone:
            await response(scope, receive, send)

    return app


class WatchedClient:
    """Cancels the work inside its context once the client disconnects.

    A body that is refused also cancels it, since a disconnect behind that body would go unnoticed.
    Watching costs a task, so it starts late: most answers are ready before.
    """

    def __init__(self, receive: Receive) -> None:
        self.is_gone = False
        self._receive = receive
        self._watching: asyncio.Task[None] | None = None
        self._refusal: HTTPException | None = None

    def __enter__(self) -> Self:
        self._task = cast(asyncio.Task[Any], asyncio.current_task())
        self._timer = asyncio.get_running_loop().call_later(WATCHED_AFTER_SECONDS, self._start)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self._timer.cancel()
        if self._watching:
            self._watching.cancel()
        # If the task was also cancelled by somebody else, let that cancellation propagate.
        is_ours = self.is_gone and self._task.uncancel() == 0
        if is_ours and self._refusal:
            raise self._refusal
        return is_ours

    def _start(self) -> None:
        self._watching = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        try:
            while (await self._receive())["type"] != "http.disconnect":
                pass
        except HTTPException as refusal:
            self._refusal = refusal
        self.is_gone = True
        self._task.cancel()


def _is_plain(dependant: Dependant) -> bool:
    """Whether it takes only the request, path parameters, and dependencies that are plain too."""
    needs_fastapi = (
        *(dependant.query_params, dependant.header_params, dependant.cookie_params),
        *(dependant.body_params, dependant.concurrency),
        *(dependant.own_oauth_scopes, dependant.security_scopes_param_name),
        *(dependant.websocket_param_name, dependant.http_connection_param_name),
        *(dependant.response_param_name, dependant.background_tasks_param_name),
    )
    return not any(needs_fastapi) and all(map(_is_plain_call, dependant.dependencies))


def _is_plain_call(dependant: Dependant) -> bool:
    call = dependant.call
    is_coroutine = any(map(inspect.iscoroutinefunction, (call, type(call).__call__)))
    return is_coroutine and dependant.use_cache and _is_plain(dependant)


def _arguments_of(dependant: Dependant) -> ArgumentsOf:
    """A function that resolves its arguments; shared dependencies are called once per request."""
    asked = [
        (each.name, cast(Handler, each.call), _arguments_of(each))
        for each in dependant.dependencies
    ]

    async def arguments_of(request: Request, known: Known) -> dict[str, Any]:
        arguments: dict[str, Any] = {}
        for name, call, its_arguments_of in asked:
            if call not in known:
                known[call] = await call(**await its_arguments_of(request, known))
            if name:
                arguments[name] = known[call]
        if dependant.path_params:
            values, errors = request_params_to_args(dependant.path_params, request.path_params)
            if errors:
                raise RequestValidationError(errors)
            arguments |= values
        if dependant.request_param_name:
            arguments[dependant.request_param_name] = request
        return arguments

    return arguments_of
