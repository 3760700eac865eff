"""Exceptions become RFC 9457 problem details here, and nowhere else."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import Scope

from app.core.errors import AppError, InvalidInput, UnsupportedMediaType

PROBLEM_MEDIA_TYPE = "application/problem+json"
MAX_ERRORS = 50  # a body of 1 MiB can be wrong in a hundred thousand places
MAX_LOC_LENGTH = 100
_NO_JSON = "model_attributes_type"  # the body was left as bytes


class ProblemResponse(JSONResponse):
    media_type = PROBLEM_MEDIA_TYPE


def add_error_handlers(app: FastAPI) -> None:
    app.exception_handlers |= {
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
    return "json" in request.headers.get("content-type", "")


def _describe(error: Mapping[str, Any]) -> dict[str, Any]:
    loc = [part[:MAX_LOC_LENGTH] if isinstance(part, str) else part for part in error["loc"]]
    return {"loc": loc, "msg": error["msg"].removeprefix("Value error, "), "type": error["type"]}


async def handle_http_exception(request: Request, error: HTTPException) -> ProblemResponse:
    """Starlette's and FastAPI's own refusals: no such route, wrong method, unreadable body."""
    status = HTTPStatus(error.status_code)
    headers = dict(error.headers or {})
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = _allowed_methods(request)
    return _problem(request.scope, status, status.name.lower(), error.detail, headers)


def _allowed_methods(request: Request) -> str:
    """Those of all routes with this path; Starlette names those of the first alone."""
    routes = iter_route_contexts(request.app.routes)
    methods = (r.methods or () for r in routes if r.matches(request.scope)[0] is Match.PARTIAL)
    return ", ".join(sorted(set().union(*methods)))


def problem(scope: Scope, error: AppError) -> ProblemResponse:
    extra = {"errors": error.errors} if isinstance(error, InvalidInput) else {}
    return _problem(
        scope, HTTPStatus(error.status), error.code, error.detail, error.headers, **extra
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
        "title": status.phrase,
        "status": status.value,
        "detail": detail,
        "code": code,
        "request_id": scope["state"]["request_id"],
        **extra,
    }
    return ProblemResponse(content, status.value, headers)


def problems(*errors: type[AppError]) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may answer with these errors, for its documentation."""
    return {
        error.status: {
            "description": HTTPStatus(error.status).phrase,
            "content": {PROBLEM_MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for error in errors
    }
