"""What FastAPI does not know of the routes is added to the schema: problems, headers, retries."""

import inspect
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts

from app.api.errors import problems
from app.api.idempotency import REPLAYED
from app.api.representation import CONDITIONAL_METHODS
from app.api.resources import ListParams
from app.core.config import settings
from app.core.errors import (
    AppError,
    IdempotencyKeyInUse,
    IdempotencyKeyReused,
    InvalidInput,
    NotAuthenticated,
    PreconditionFailed,
    PreconditionRequired,
)
from app.crud.reading import Slice, Stored
from app.db.base import Versioned
from app.dependencies import (
    IDEMPOTENCY_KEY,
    IDEMPOTENCY_KEY_PATTERN,
    IDEMPOTENCY_METHODS,
    units_of_work,
)
from app.schemas import Problem

_IDEMPOTENCY_KEY_PARAMETER = {
    "name": IDEMPOTENCY_KEY,
    "in": "header",
    "required": False,
    "description": (
        "Makes a retry safe: choose a random key, such as a UUID, for each thing to be done. The "
        "same request with the same key is done once; sent again within "
        f"{settings.IDEMPOTENCY_KEY_HOURS} hours it gets the same answer again, with "
        f"`{REPLAYED}: true`."
    ),
    "schema": {"type": "string", "pattern": f"^{IDEMPOTENCY_KEY_PATTERN}$"},
}
_IF_MATCH_PARAMETER = {
    "name": "If-Match",
    "in": "header",
    "required": settings.IF_MATCH_REQUIRED,
    "description": "The `ETag` of the state that this changes; it is refused if that is gone.",
    "schema": {"type": "string"},
}
_IF_NONE_MATCH_PARAMETER = {
    "name": "If-None-Match",
    "in": "header",
    "required": False,
    "description": "The `ETag` of the state that is known already, so that it is not sent again.",
    "schema": {"type": "string"},
}
_MERGES = (
    " A member that is absent stays as it is. All that GET gave can be sent back: members that say "
    "what is there already are passed over, those that are read only too."
)
_ETAG = {"description": "Names this state", "schema": {"type": "string"}}
_LINK = {"description": "The pages `next` and `prev`, RFC 8288", "schema": {"type": "string"}}


def complete_schema(app: FastAPI) -> None:
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = generate()
            _add_problems(schema)
            for route in iter_route_contexts(app.routes):
                operations = schema["paths"].get(route.path_format, {})
                for method in route.methods or ():
                    if operation := operations.get(method.lower()):
                        operation.setdefault("parameters", [])
                        _add_safe_retries(operation, method, route.dependant)
                        _add_conditions(operation, method, route.endpoint)
                        _add_pages(operation, route.dependant, route.endpoint)
            _describe_changes(schema)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # the way FastAPI documents


def _add_problems(schema: dict[str, Any]) -> None:
    components = schema["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        components.pop(name, None)
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    components |= problem.pop("$defs") | {"Problem": problem}
    for path in schema["paths"].values():
        for operation in path.values():
            responses = operation["responses"]
            if "422" in responses:
                responses |= _documented(InvalidInput)
            if "security" in operation:
                responses |= _documented(NotAuthenticated)
            any_error = _documented(AppError).popitem()[1]
            responses["default"] = any_error | {"description": "Any other error"}


def _add_safe_retries(operation: dict[str, Any], method: str, dependant: Dependant) -> None:
    """Wherever `DbSession` looks at the key."""
    if method in IDEMPOTENCY_METHODS and units_of_work(dependant):
        operation["parameters"].append(_IDEMPOTENCY_KEY_PARAMETER)
        operation["responses"] |= _documented(IdempotencyKeyInUse, IdempotencyKeyReused)


def _add_conditions(operation: dict[str, Any], method: str, endpoint: Any) -> None:
    if method in CONDITIONAL_METHODS:
        operation["parameters"].append(_IF_MATCH_PARAMETER)
        operation["responses"] |= _documented(PreconditionFailed, PreconditionRequired)
    if not issubclass(_returned_by(endpoint), (Stored, Versioned)):
        return
    _success(operation)["headers"] = {"ETag": _ETAG}
    if method == "GET":
        operation["parameters"].append(_IF_NONE_MATCH_PARAMETER)
        operation["responses"]["304"] = {"description": HTTPStatus.NOT_MODIFIED.phrase}


def _add_pages(operation: dict[str, Any], dependant: Dependant, endpoint: Any) -> None:
    if issubclass(_returned_by(endpoint), Slice):
        _success(operation)["headers"] = {"Link": _LINK}
    for params in _list_params_of(dependant):
        properties = params.model.model_json_schema()["properties"]
        operation["parameters"] += [
            _query_parameter(name, schema, is_repeatable=name in params.repeatable)
            for name, schema in properties.items()
        ]
        operation["responses"] |= _documented(InvalidInput)


def _list_params_of(dependant: Dependant) -> Iterator[ListParams[Any]]:
    if isinstance(dependant.call, ListParams):
        yield dependant.call
    for each in dependant.dependencies:
        yield from _list_params_of(each)


def _query_parameter(name: str, schema: dict[str, Any], *, is_repeatable: bool) -> dict[str, Any]:
    parameter = {"name": name, "in": "query", "required": False, "schema": schema}
    if "description" in schema:
        parameter["description"] = schema.pop("description")
    if schema.get("type") == "array":
        parameter |= {"style": "form", "explode": is_repeatable}  # else with commas
    return parameter


def _describe_changes(schema: dict[str, Any]) -> None:
    """What no PUT and no PATCH takes of what it answers with is read only."""
    components = schema["components"]["schemas"]
    taken: dict[str, set[str]] = {}
    for path in schema["paths"].values():
        for operation in (path[method] for method in ("put", "patch") if method in path):
            sent, shown = (
                each["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
                for each in (operation["requestBody"], _success(operation))
            )
            taken.setdefault(shown, set()).update(components[sent]["properties"])
        if "put" in path:
            path["put"]["description"] += _MERGES
    for shown, names in taken.items():
        for name in components[shown]["properties"].keys() - names:
            components[shown]["properties"][name]["readOnly"] = True


def _success(operation: dict[str, Any]) -> dict[str, Any]:
    responses = operation["responses"]
    success: dict[str, Any] = responses["201"] if "201" in responses else responses["200"]
    return success


def _returned_by(endpoint: Any) -> type:
    annotation = inspect.signature(endpoint).return_annotation
    returned = getattr(annotation, "__origin__", annotation)  # Slice of Slice[Product]
    return returned if isinstance(returned, type) else type(None)


def _documented(*errors: type[AppError]) -> dict[str, Any]:
    return {str(status): response for status, response in problems(*errors).items()}
