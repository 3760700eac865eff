"""Adds to the schema what FastAPI does not know of the routes: errors, headers, retries, texts."""

import inspect
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from app.api.errors import problems
from app.api.idempotency import REPLAYED
from app.api.representation import CONDITIONAL_METHODS
from app.api.resources import ListParams
from app.api.transfers import Download
from app.core.config import settings
from app.core.errors import (
    AppError,
    BadRequest,
    ContentTooLarge,
    IdempotencyKeyInUse,
    IdempotencyKeyReused,
    InvalidCursor,
    InvalidInput,
    NotAuthenticated,
    PreconditionFailed,
    PreconditionRequired,
    RequestTimeout,
    Unavailable,
    UnsupportedMediaType,
)
from app.crud.reading import Created, Slice, Stored
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
    "schema": {
        "type": "string",
        "pattern": f"^{IDEMPOTENCY_KEY_PATTERN}$",
        "examples": ["8e03978e-40d5-43dd-bc93-6894a57f9324"],
    },
}


def _condition(name: str, description: str, *, is_required: bool = False) -> dict[str, Any]:
    return {
        "name": name,
        "in": "header",
        "required": is_required,
        "description": description,
        "schema": {"type": "string", "examples": ['"3"']},
    }


_CONDITIONS_OF_READS = [
    _condition("If-Match", "The `ETag` of the state to read; 412 if that is gone."),
    _condition(
        "If-None-Match",
        "The `ETag` of the state that is known already, so that it is not sent again.",
    ),
]
_CONDITIONS_OF_CHANGES = [
    _condition(
        "If-Match",
        "The `ETag` of the state that this changes; it is refused if that is gone.",
        is_required=settings.IF_MATCH_REQUIRED,
    ),
    _condition("If-None-Match", "The `ETag` of a state that this must not change."),
]


def _header(description: str, example: str | int, *, is_always_sent: bool = True) -> dict[str, Any]:
    kind = "integer" if isinstance(example, int) else "string"
    return {
        "description": description,
        "required": is_always_sent,
        "schema": {"type": kind, "examples": [example]},
    }


_HEADERS = {
    "Accept-Encoding": _header(
        "How the body may be encoded; sent where `Content-Encoding` is refused",
        "identity",
        is_always_sent=False,
    ),
    "Cache-Control": _header("Whether the answer may be stored", "no-store"),
    "Content-Disposition": _header("The name for the file", 'attachment; filename="products.csv"'),
    "ETag": _header("Names this state, for `If-Match` and `If-None-Match`", '"3"'),
    REPLAYED: _header("Sent with a stored answer", "true", is_always_sent=False),
    "Link": _header(
        "The pages `next` and `prev`, RFC 8288",
        '</api/v1/products/?cursor=abc>; rel="next"',
        is_always_sent=False,
    ),
    "Location": _header("Where the new row is", "/api/v1/products/1"),
    "Retry-After": _header("Seconds to wait", 1, is_always_sent=False),
    "Vary": _header("The request headers that the answer depends on", "Origin, Authorization"),
    "WWW-Authenticate": _header("RFC 6750", 'Bearer error="invalid_token"'),
    "X-Request-ID": _header(
        "Names this request in the log; yours, if it sent one",
        "c0225fc47ed8f46faadce03d32f594d3",
    ),
}
_ON_EVERY_ANSWER = ("Cache-Control", "Vary", "X-Request-ID")
_BY_STATUS = {
    "304": ["ETag"],
    "401": ["WWW-Authenticate"],
    "409": ["Retry-After"],
    "415": ["Accept-Encoding"],
    "429": ["Retry-After"],
    "503": ["Retry-After"],
}
_MERGES = (
    " A member that is absent stays as it is. All that GET gave can be sent back: members that say "
    "what is there already are passed over, those that are read only too."
)


def complete_schema(app: FastAPI) -> None:
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = generate()
            schema.setdefault("servers", [{"url": settings.ROOT_PATH or "/"}])
            _add_components(schema)
            tags: dict[str, str] = {}
            for route in iter_route_contexts(app.routes):
                path = route.path_format or ""
                operations = schema["paths"].get(path, {})
                for method in route.methods or ():
                    if operation := operations.get(method.lower()):
                        operation.setdefault("parameters", [])
                        operation.setdefault("security", [])  # else tools take it for forgotten
                        _add_errors(operation, is_probe=path.startswith("/health"))
                        _add_safe_retries(operation, method, route.dependant)
                        _add_conditions(operation, method, route.endpoint)
                        _add_parameters_of_list(operation, route.dependant)
                        _add_headers(operation, route.endpoint)
                        _describe_input(operation, schema["components"]["schemas"])
                        for tag in operation.get("tags", ()):
                            tags.setdefault(tag, _first_line(route.endpoint))
            _describe_changes(schema)
            schema["tags"] = [{"name": name, "description": text} for name, text in tags.items()]
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # the way FastAPI documents


def _add_components(schema: dict[str, Any]) -> None:
    components = schema["components"]
    for name in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(name, None)
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    components["schemas"] |= problem.pop("$defs") | {"Problem": problem}
    components["headers"] = _HEADERS


def _add_errors(operation: dict[str, Any], *, is_probe: bool) -> None:
    responses = operation["responses"]
    if "422" in responses:
        responses |= _documented(InvalidInput)
    if operation["security"]:
        responses |= _documented(NotAuthenticated)
    if "requestBody" in operation:
        responses |= _documented(
            BadRequest, RequestTimeout, ContentTooLarge, UnsupportedMediaType, InvalidInput
        )
    if not is_probe:
        responses |= _documented(Unavailable)
    any_error = _documented(AppError).popitem()[1]
    responses["default"] = any_error | {"description": "Any other error"}


def _add_safe_retries(operation: dict[str, Any], method: str, dependant: Dependant) -> None:
    """Wherever `DbSession` looks at the key."""
    if method in IDEMPOTENCY_METHODS and units_of_work(dependant):
        operation["parameters"].append(_IDEMPOTENCY_KEY_PARAMETER)
        operation["responses"] |= _documented(IdempotencyKeyInUse, IdempotencyKeyReused)
        _refer_to_headers(_success(operation), REPLAYED)


def _add_conditions(operation: dict[str, Any], method: str, endpoint: Any) -> None:
    if method in CONDITIONAL_METHODS:
        operation["parameters"] += _CONDITIONS_OF_CHANGES
        operation["responses"] |= _documented(PreconditionFailed, PreconditionRequired)
    if method == "GET" and _has_version(endpoint):
        operation["parameters"] += _CONDITIONS_OF_READS
        operation["responses"] |= _documented(PreconditionFailed)
        operation["responses"]["304"] = {"description": HTTPStatus.NOT_MODIFIED.phrase}


def _add_parameters_of_list(operation: dict[str, Any], dependant: Dependant) -> None:
    for params in _list_params_of(dependant):
        schema = params.model.model_json_schema(schema_generator=_QuerySchema)
        operation["parameters"] += [
            _query_parameter(name, each, is_repeatable=name in params.repeatable)
            for name, each in schema["properties"].items()
        ]
        operation["responses"] |= _documented(InvalidInput)
        if "cursor" in params.model.model_fields:
            operation["responses"] |= _documented(InvalidCursor)


class _QuerySchema(GenerateJsonSchema):
    """None is what stands for a parameter that was not sent; nobody can send it."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        if schema.get("default") is None:
            return self.generate_inner(schema["schema"])
        return super().default_schema(schema)


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
        schema["examples"] = [[example] for example in schema.get("examples", ())]
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


def _add_headers(operation: dict[str, Any], endpoint: Any) -> None:
    success, returned = _success(operation), _returned_by(endpoint)
    if issubclass(returned, Slice):
        _refer_to_headers(success, "Link")
    if issubclass(returned, Download):
        _refer_to_headers(success, "Content-Disposition")
    if _has_version(endpoint):
        _refer_to_headers(success, "ETag")
        if issubclass(returned, Created):
            _refer_to_headers(success, "Location")
    for status, response in operation["responses"].items():
        _refer_to_headers(response, *_ON_EVERY_ANSWER, *_BY_STATUS.get(status, ()))


def _refer_to_headers(response: dict[str, Any], *names: str) -> None:
    response["headers"] = response.get("headers", {}) | {
        name: {"$ref": f"#/components/headers/{name}"} for name in names
    }


def _describe_input(operation: dict[str, Any], components: dict[str, Any]) -> None:
    """What is said of a field in the answer is true of the same field in the body."""
    sent = _fields(operation.get("requestBody"), components)
    for name, answered in _fields(_success(operation), components).items():
        for keyword in ("description", "examples"):
            if name in sent and keyword in answered:
                sent[name].setdefault(keyword, answered[keyword])


def _fields(message: dict[str, Any] | None, components: dict[str, Any]) -> dict[str, Any]:
    """The members of a body or answer that is an object of its own kind."""
    for content in (message or {}).get("content", {}).values():
        if reference := content["schema"].get("$ref"):
            fields: dict[str, Any] = components[reference.rsplit("/", 1)[1]]["properties"]
            return fields
    return {}


def _success(operation: dict[str, Any]) -> dict[str, Any]:
    responses = operation["responses"]
    success: dict[str, Any] = next(responses[status] for status in responses if status[0] == "2")
    return success


def _returned_by(endpoint: Any) -> type:
    annotation = inspect.signature(endpoint).return_annotation
    returned = getattr(annotation, "__origin__", annotation)  # Slice of Slice[Product]
    return returned if isinstance(returned, type) else type(None)


def _has_version(endpoint: Any) -> bool:
    """Whether it returns one row, as `Stored` or itself, of a model that counts its versions."""
    returned = _returned_by(endpoint)
    if issubclass(returned, Stored):
        (returned,) = inspect.signature(endpoint).return_annotation.__args__
    return issubclass(returned, Versioned)


def _first_line(endpoint: Any) -> str:
    """Of the module that it stands in."""
    text = inspect.getdoc(inspect.getmodule(endpoint)) or ""
    return text.partition("\n")[0]


def _documented(*errors: type[AppError]) -> dict[str, Any]:
    return {str(status): response for status, response in problems(*errors).items()}
