"""Completes the OpenAPI document with what FastAPI cannot know: errors, headers, retries, texts."""

import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from timberframe.crud.results import Created, Slice, Stored
from timberframe.data.base import Base, Versioned
from timberframe.errors import (
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
from timberframe.http.bulk import body_is_file, file_body
from timberframe.http.dependencies import may_be_anonymous, units_of_work
from timberframe.http.events import EventStream
from timberframe.http.idempotency import (
    IDEMPOTENCY_KEY,
    IDEMPOTENCY_KEY_PATTERN,
    IDEMPOTENCY_METHODS,
    REPLAYED,
)
from timberframe.http.options import HttpOptions
from timberframe.http.preconditions import CONDITIONAL_METHODS
from timberframe.http.problems import problems
from timberframe.http.resources import ListParams
from timberframe.http.routing import shares_handler_with_put
from timberframe.http.transfers import Download
from timberframe.schemas.message import Problem


def _idempotency_key_parameter(lifetime: timedelta) -> dict[str, Any]:
    return {
        "name": IDEMPOTENCY_KEY,
        "in": "header",
        "required": False,
        "description": (
            "Makes retries safe: choose a random key, such as a UUID, for each operation. A "
            "request with the same key is processed only once; sent again within "
            f"{lifetime // timedelta(hours=1)} hours, it gets the same answer, with "
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
    _condition("If-Match", "The `ETag` of the version to read; 412 if the row has another one."),
    _condition(
        "If-None-Match",
        "The `ETag` of the version that you have; 304 if it is the current one.",
    ),
]


def _conditions_of_changes(*, is_if_match_required: bool) -> list[dict[str, Any]]:
    return [
        _condition(
            "If-Match",
            "The `ETag` of the version to change; 412 if the row has another one.",
            is_required=is_if_match_required,
        ),
        _condition(
            "If-None-Match",
            "The `ETag` of a version that must not be changed; 412 if it is the current one.",
        ),
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
        "Which content codings are accepted; sent if `Content-Encoding` was refused",
        "identity",
        is_always_sent=False,
    ),
    "Cache-Control": _header("Whether the answer may be stored", "no-store"),
    "Content-Disposition": _header("The name of the file", 'attachment; filename="rows.csv"'),
    "ETag": _header("Identifies this version, for `If-Match` and `If-None-Match`", '"3"'),
    REPLAYED: _header("Sent with a stored answer", "true", is_always_sent=False),
    "Retry-After": _header("Seconds to wait", 1, is_always_sent=False),
    "Vary": _header("The request headers that the answer depends on", "Origin, Authorization"),
    "WWW-Authenticate": _header("RFC 6750", 'Bearer error="invalid_token"'),
    "X-Accel-Buffering": _header("Has a proxy such as nginx pass on each event at once", "no"),
    "X-Request-ID": _header(
        "Identifies this request in the log; the one that was sent, if any",
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
# Pydantic's constraints on a type that has a validator, which it writes as they are.
_BOUNDS: dict[str, tuple[str, Callable[..., float]]] = {
    "ge": ("minimum", max),
    "gt": ("exclusiveMinimum", max),
    "le": ("maximum", min),
    "lt": ("exclusiveMaximum", min),
}
_DECIMAL = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_VALUES = ("const", "default", "enum", "example", "examples")
_MERGES = (
    " Absent members stay as they are. The whole answer of GET can be sent back: members with "
    "their current value are ignored, including read-only ones."
)


def operation_ids(prefixes: Sequence[str]) -> Callable[[APIRoute], str]:
    """Make ids of operations: the handler's name, which clients name their functions after.

    A PATCH that shares its handler with a PUT is `patch_…`. Below other prefixes than the first,
    the prefix is part of the id, without what it has in common with the first: `v2_read_products`.
    """
    first = prefixes[0].split("/") if prefixes else []
    names = {}
    for prefix in sorted(prefixes, key=len, reverse=True):  # the longest that fits
        names[f"{prefix}/"] = "_".join(part for part in prefix.split("/") if part not in first)

    def operation_id(route: APIRoute) -> str:
        name = route.name
        if shares_handler_with_put(route):
            name = "_".join(["patch", *name.split("_")[1:]])
        inside = (below for prefix, below in names.items() if route.path.startswith(prefix))
        return re.sub(r"\W", "_", f"{next(inside, '')}_{name}").lstrip("_")

    return operation_id


def complete_schema(app: FastAPI, options: HttpOptions) -> None:
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = generate()
            schema.setdefault("servers", [{"url": options.root_path or "/"}])
            _add_components(schema, token_url=_token_url(app, options))
            tags: dict[str, str] = {}
            unversioned = _unversioned_paths(app)
            for route in iter_route_contexts(app.routes):
                path = route.path_format or ""
                operations = schema["paths"].get(path, {})
                for method in route.methods or ():
                    if operation := operations.get(method.lower()):
                        operation.setdefault("parameters", [])
                        operation.setdefault("security", [])  # otherwise tools report it missing
                        if may_be_anonymous(route.dependant):
                            operation["security"].append({})
                        _add_errors(operation, is_probe=path.startswith("/health"))
                        _add_safe_retries(operation, method, route.dependant, options)
                        if body_is_file(route.dependant):
                            operation["requestBody"] = file_body(options.import_max_bytes)
                        if path not in unversioned:
                            _add_conditions(operation, method, route.endpoint, options)
                        _add_parameters_of_list(operation, route.dependant)
                        _add_headers(operation, f"{options.root_path}{path}", route.endpoint)
                        _describe_input(operation, schema["components"]["schemas"])
                        for tag in operation.get("tags", ()):
                            tags.setdefault(tag, _first_line(route.endpoint))
            _describe_changes(schema)
            _state_bounds(schema)
            schema["tags"] = [{"name": name, "description": text} for name, text in tags.items()]
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # the way FastAPI documents


def _add_components(schema: dict[str, Any], *, token_url: str) -> None:
    components = schema["components"]
    for name in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(name, None)
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    components["schemas"] |= problem.pop("$defs") | {"Problem": problem}
    components["headers"] = _HEADERS
    for scheme in components.get("securitySchemes", {}).values():
        scheme["flows"]["password"]["tokenUrl"] = token_url


def _token_url(app: FastAPI, options: HttpOptions) -> str:
    """The URL of the first token endpoint; without one, only the root path."""
    return f"{options.root_path}{min(app.state.token_paths, default='')}"


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


def _add_safe_retries(
    operation: dict[str, Any], method: str, dependant: Dependant, options: HttpOptions
) -> None:
    """Document `Idempotency-Key` where `DbSession` or `DbWrite` reads it."""
    if method in IDEMPOTENCY_METHODS and units_of_work(dependant):
        parameter = _idempotency_key_parameter(options.idempotency_lifetime)
        operation["parameters"].append(parameter)
        operation["responses"] |= _documented(IdempotencyKeyInUse, IdempotencyKeyReused)
        _refer_to_headers(_success(operation), REPLAYED)


def _add_conditions(
    operation: dict[str, Any], method: str, endpoint: Any, options: HttpOptions
) -> None:
    if method in CONDITIONAL_METHODS:
        is_required = options.is_if_match_required
        operation["parameters"] += _conditions_of_changes(is_if_match_required=is_required)
        operation["responses"] |= _documented(PreconditionFailed, PreconditionRequired)
    if method == "GET" and _has_version(endpoint):
        operation["parameters"] += _CONDITIONS_OF_READS
        operation["responses"] |= _documented(PreconditionFailed)
        operation["responses"]["304"] = {"description": HTTPStatus.NOT_MODIFIED.phrase}


def _unversioned_paths(app: FastAPI) -> set[str]:
    """The paths of rows that have no version, and so no preconditions."""
    return {
        route.path_format or ""
        for route in iter_route_contexts(app.routes)
        if "GET" in (route.methods or ())
        and issubclass(model := _model_returned_by(route.endpoint), Base)
        and not issubclass(model, Versioned)
    }


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
    """Leaves out None: it stands for a parameter that was not sent, and nobody can send it."""

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
        parameter |= {"style": "form", "explode": is_repeatable}  # or with commas
        schema["examples"] = [[example] for example in schema.get("examples", ())]
    return parameter


def _describe_changes(schema: dict[str, Any]) -> None:
    """Mark fields of an answer as read-only if neither PUT nor PATCH accepts them."""
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


def _state_bounds(part: Any) -> None:
    """Write bounds that narrow a type of `schemas.fields` by the keywords of JSON Schema."""
    if isinstance(part, list):
        for each in part:
            _state_bounds(each)
    if not isinstance(part, dict):
        return
    for constraint, (keyword, narrower) in _BOUNDS.items():
        bound = part.get(constraint)
        if isinstance(bound, str) and _DECIMAL.fullmatch(bound):  # a Decimal as Pydantic writes it
            bound = float(bound)
        if isinstance(bound, (int, float)):  # and neither a date, nor a property of this name
            del part[constraint]
            part[keyword] = narrower(bound, part.get(keyword, bound))
    for key, inner in part.items():
        if key not in _VALUES:
            _state_bounds(inner)


def _add_headers(operation: dict[str, Any], path: str, endpoint: Any) -> None:
    success, returned = _success(operation), _returned_by(endpoint)
    headers = success.setdefault("headers", {})
    path = re.sub("{[^}]*}", "1", path)
    if issubclass(returned, Slice):
        about = "Links to the `next` and `prev` pages, RFC 8288"
        example = f'<{path}?cursor=abc>; rel="next"'
        headers["Link"] = _header(about, example, is_always_sent=False)
    if issubclass(returned, Download):
        _refer_to_headers(success, "Content-Disposition")
    if issubclass(returned, EventStream):
        _refer_to_headers(success, "X-Accel-Buffering")
    if _has_version(endpoint):
        _refer_to_headers(success, "ETag")
        if issubclass(returned, Created):
            headers["Location"] = _header("Where the new row is", f"{path.rstrip('/')}/1")
    for status, response in operation["responses"].items():
        _refer_to_headers(response, *_ON_EVERY_ANSWER, *_BY_STATUS.get(status, ()))


def _refer_to_headers(response: dict[str, Any], *names: str) -> None:
    headers = response.setdefault("headers", {})
    headers |= {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _describe_input(operation: dict[str, Any], components: dict[str, Any]) -> None:
    """Reuse the description of a field in the answer for the same field in the body."""
    sent = _fields(operation.get("requestBody"), components)
    for name, answered in _fields(_success(operation), components).items():
        for keyword in ("description", "examples"):
            if name in sent and keyword in answered:
                sent[name].setdefault(keyword, answered[keyword])


def _fields(message: dict[str, Any] | None, components: dict[str, Any]) -> dict[str, Any]:
    """The properties of a body or answer whose schema is a component."""
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


def _model_returned_by(endpoint: Any) -> type:
    """The model of the one row that it returns, as `Stored` or as the model itself."""
    returned = _returned_by(endpoint)
    if issubclass(returned, Stored):
        (returned,) = inspect.signature(endpoint).return_annotation.__args__
    return returned


def _has_version(endpoint: Any) -> bool:
    return issubclass(_model_returned_by(endpoint), Versioned)


def _first_line(endpoint: Any) -> str:
    """The first line of the docstring of the endpoint's module."""
    text = inspect.getdoc(inspect.getmodule(endpoint)) or ""
    return text.partition("\n")[0]


def _documented(*errors: type[AppError]) -> dict[str, Any]:
    return {str(status): response for status, response in problems(*errors).items()}
