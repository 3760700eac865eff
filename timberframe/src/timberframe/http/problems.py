"""Exceptions become RFC 9457 problem details here, and nowhere else."""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from timberframe.crud.idempotency import AlreadyAnswered
from timberframe.errors import (
    AppError,
    BadRequest,
    ContentTooLarge,
    InvalidInput,
    NotAuthenticated,
    NotFound,
    NotPermitted,
    UnsupportedMediaType,
)
from timberframe.http.exchange import Exchange
from timberframe.http.idempotency import handle_already_answered
from timberframe.http.oauth import asks_for_token, oauth_members
from timberframe.schemas.validation_errors import message_of

PROBLEM_MEDIA_TYPE = "application/problem+json"
MAX_ERRORS = 50  # a body of 1 MiB can be wrong in a hundred thousand places
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")  # other names that a client sends are not repeated
_NO_JSON = "model_attributes_type"  # the body was left as bytes

_CODES = {
    HTTPStatus(error.status): error.code
    for error in (BadRequest, NotAuthenticated, NotPermitted, NotFound, ContentTooLarge)
}
# The phrases of RFC 9110; older versions of Python have those of RFC 7231.
_PHRASES = {413: "Content Too Large", 414: "URI Too Long", 422: "Unprocessable Content"}


class ProblemResponse(JSONResponse):
    media_type = PROBLEM_MEDIA_TYPE

    def render(self, content: Any) -> bytes:
        return (
            super().render(content) + b"\n"
        )  # so that a terminal's prompt is on a line of its own


class Refusal(Response):
    """A problem that is rendered when it is sent, because only then is the request known."""

    def __init__(self, error: AppError) -> None:
        super().__init__(status_code=error.status)
        self.error = error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await problem(scope, self.error)(scope, receive, send)


def add_error_handlers(app: FastAPI) -> None:
    app.exception_handlers |= {
        AlreadyAnswered: handle_already_answered,
        AppError: handle_app_error,
        RequestValidationError: handle_validation_error,
        HTTPException: handle_http_exception,
    }


async def handle_app_error(request: Request, error: AppError) -> ProblemResponse:
    return problem(request.scope, error)


async def handle_validation_error(
    request: Request, error: RequestValidationError
) -> ProblemResponse:
    """Say what is wrong and where, without the input: it may hold a password."""
    if any(e["type"] == _NO_JSON for e in error.errors()) and not _is_json(request):
        return problem(request.scope, UnsupportedMediaType("application/json"))
    return problem(request.scope, InvalidInput([_describe(e) for e in error.errors()[:MAX_ERRORS]]))


def _is_json(request: Request) -> bool:
    return "json" in request.headers.get("content-type", "").lower()


def _describe(error: Mapping[str, Any]) -> dict[str, Any]:
    loc = [part if isinstance(part, int) or _NAME.fullmatch(part) else "?" for part in error["loc"]]
    return {"loc": loc, "msg": message_of(error), "type": error["type"]}


async def handle_http_exception(request: Request, error: HTTPException) -> Response:
    """Starlette's and FastAPI's own refusals: no such route, wrong method, unreadable body.

    No route handles OPTIONS, so it is answered here, for every path that has a route.
    """
    status = HTTPStatus(error.status_code)
    headers = dict(error.headers or {})
    if request.method == "OPTIONS" and request.scope["path"] == "*":
        return Response(status_code=204)
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = _allowed_methods(request)
        if request.method == "OPTIONS":
            return Response(status_code=204, headers=headers)
    code = _CODES.get(status, status.name.lower())
    return _problem(request.scope, status, code, error.detail, headers)


def _allowed_methods(request: Request) -> str:
    """Starlette lists the methods of the first match only; collect them from all."""
    routes = list(iter_route_contexts(request.app.routes))
    matched = [route for route in routes if route.matches(request.scope)[0] is Match.PARTIAL]
    if not matched:
        return "GET, HEAD, OPTIONS"  # static files
    methods = (route.methods or () for route in routes if route.path == matched[0].path)
    allowed = {"OPTIONS"}.union(*methods)
    return ", ".join(sorted(allowed | {"HEAD"} if "GET" in allowed else allowed))


def problem(scope: Scope, error: AppError) -> ProblemResponse:
    return _problem(
        scope, HTTPStatus(error.status), error.code, error.detail, error.headers, **error.members
    )


def _problem(
    scope: Scope,
    status: HTTPStatus,
    code: str,
    detail: str,
    headers: Mapping[str, str],
    **extra: Any,
) -> ProblemResponse:
    content = {
        "type": "about:blank",
        "title": phrase_of(status),
        "status": status.value,
        "detail": detail,
        "code": code,
        "request_id": Exchange.of(scope).request_id,
        **extra,
    }
    if asks_for_token(scope):
        content |= oauth_members(content)
    return ProblemResponse(content, status.value, headers)


def phrase_of(status: int) -> str:
    return _PHRASES.get(status) or HTTPStatus(status).phrase


def problems(*errors: type[AppError]) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may answer with these errors, for its documentation."""
    return {
        error.status: {
            "description": phrase_of(error.status),
            "content": {PROBLEM_MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for error in errors
    }
