"""Errors of the token endpoint, as OAuth clients expect them: RFC 6749 section 5.2."""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.types import Scope

# Clients look at `error`, not at the status: without it some mistake a refusal for a token.
_ERRORS = {
    HTTPStatus.UNAUTHORIZED: "invalid_grant",
    HTTPStatus.TOO_MANY_REQUESTS: "temporarily_unavailable",
    HTTPStatus.SERVICE_UNAVAILABLE: "temporarily_unavailable",
    HTTPStatus.INTERNAL_SERVER_ERROR: "server_error",
}
_NOT_ALLOWED = re.compile(r"[^\x20\x21\x23-\x5b\x5d-\x7e]")


def asks_for_token(scope: Scope) -> bool:
    """Whether the request is for a token endpoint."""
    path: str = scope["path"]
    token_paths: frozenset[str] = scope["app"].state.token_paths
    return path.removeprefix(scope.get("root_path", "")) in token_paths


def oauth_members(problem: Mapping[str, Any]) -> dict[str, str]:
    """`error` and `error_description`, to be added to the members of this problem."""
    fields = {str(error["loc"][-1]): error["msg"] for error in problem.get("errors", ())}
    if "grant_type" in fields:
        name = "unsupported_grant_type"
    else:
        name = _ERRORS.get(HTTPStatus(problem["status"]), "invalid_request")
    description = "; ".join([problem["detail"], *map(": ".join, fields.items())])
    return {"error": name, "error_description": _NOT_ALLOWED.sub("?", description)}
