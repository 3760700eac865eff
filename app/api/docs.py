"""The documentation pages: no foreign assets, a strict content security policy."""

import secrets
from functools import cache
from pathlib import Path
from typing import Any

import fastapi_offline
from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from fastapi.responses import HTMLResponse, Response
from fastapi.routing import iter_route_contexts
from fastapi.staticfiles import StaticFiles

from app.api.errors import problems
from app.api.idempotency import REPLAYED
from app.core.config import settings
from app.core.errors import (
    AppError,
    IdempotencyKeyInUse,
    IdempotencyKeyReused,
    InvalidInput,
    NotAuthenticated,
)
from app.dependencies import (
    IDEMPOTENCY_KEY,
    IDEMPOTENCY_KEY_PATTERN,
    IDEMPOTENCY_METHODS,
    uses_unit_of_work,
)
from app.schemas import Problem

ASSETS = Path(fastapi_offline.__file__).parent / "static"
# The bundle would fetch its footer's logo from the vendor's network.
_FOREIGN_LOGO = b"https://cdn.redoc.ly/redoc/logo-mini.svg"
_ASSETS_URL = "/api/docs/assets"
_REDOC_URL = "/api/redoc/redoc.js"
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


def add_docs(app: FastAPI) -> None:
    """Serve Swagger UI at /api/docs and ReDoc at /api/redoc."""
    router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)

    @router.get("/api/docs")
    async def swagger_ui(request: Request) -> HTMLResponse:
        root = request.scope.get("root_path", "")
        page = get_swagger_ui_html(
            openapi_url=f"{root}{app.openapi_url}",
            title=app.title,
            swagger_js_url=f"{root}{_ASSETS_URL}/swagger-ui-bundle.js",
            swagger_css_url=f"{root}{_ASSETS_URL}/swagger-ui.css",
            swagger_favicon_url=f"{root}{_ASSETS_URL}/favicon.png",
            swagger_ui_parameters={"persistAuthorization": False},
        )
        return _with_policy(page)

    @router.get("/api/redoc")
    async def redoc(request: Request) -> HTMLResponse:
        root = request.scope.get("root_path", "")
        page = get_redoc_html(
            openapi_url=f"{root}{app.openapi_url}",
            title=app.title,
            redoc_js_url=f"{root}{_REDOC_URL}",
            redoc_favicon_url=f"{root}{_ASSETS_URL}/favicon.png",
            with_google_fonts=False,
        )
        return _with_policy(page)

    @router.get(_REDOC_URL)
    async def redoc_script(request: Request) -> Response:
        logo = f"{request.scope.get('root_path', '')}{_ASSETS_URL}/favicon.png"
        return Response(_redoc_bundle(logo), media_type="text/javascript")

    app.include_router(router)
    app.mount(_ASSETS_URL, StaticFiles(directory=ASSETS))


@cache
def _redoc_bundle(logo: str) -> bytes:
    bundle = (ASSETS / "redoc.standalone.js").read_bytes()
    return bundle.replace(_FOREIGN_LOGO, logo.encode())


def _with_policy(page: HTMLResponse) -> HTMLResponse:
    nonce = secrets.token_urlsafe(16)
    html = bytes(page.body).replace(b"<script>", f'<script nonce="{nonce}">'.encode())
    policy = (
        f"default-src 'self'; script-src 'self' 'nonce-{nonce}'; "
        "style-src 'self' 'unsafe-inline'; img-src 'self' data:; worker-src blob:; "
        "object-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'"
    )
    return HTMLResponse(
        html,
        headers={
            "content-security-policy": policy,
            "cross-origin-opener-policy": "same-origin",
            "cache-control": "no-store",
        },
    )


def complete_schema(app: FastAPI) -> None:
    """State in the schema what FastAPI does not know: problems, and keys for safe retries."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _with_idempotency_keys(_with_problems(generate()), app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # the way FastAPI documents


def _with_problems(schema: dict[str, Any]) -> dict[str, Any]:
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
    return schema


def _with_idempotency_keys(schema: dict[str, Any], app: FastAPI) -> dict[str, Any]:
    """Wherever `DbSession` looks at it."""
    for route in iter_route_contexts(app.routes):
        operations = schema["paths"].get(route.path_format, {})
        for method in set(IDEMPOTENCY_METHODS) & (route.methods or set()):
            if uses_unit_of_work(route.dependant):
                operation = operations[method.lower()]
                operation.setdefault("parameters", []).append(_IDEMPOTENCY_KEY_PARAMETER)
                operation["responses"] |= _documented(IdempotencyKeyInUse, IdempotencyKeyReused)
    return schema


def _documented(*errors: type[AppError]) -> dict[str, Any]:
    return {str(status): response for status, response in problems(*errors).items()}
