"""The documentation pages: no third-party assets, a strict content security policy."""

import secrets
from functools import cache
from pathlib import Path
from typing import cast

import fastapi_offline
from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from fastapi.responses import HTMLResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.routing import Route

from timberframe.http.answers import end_line

ASSETS = Path(fastapi_offline.__file__).parent / "static"
# The bundle would fetch its footer's logo from the vendor's network.
_FOREIGN_LOGO = b"https://cdn.redoc.ly/redoc/logo-mini.svg"
_ASSETS_URL = "/api/docs/assets"
_REDOC_URL = "/api/redoc/redoc.js"


def add_docs(app: FastAPI) -> None:
    """Serve Swagger UI at /api/docs, ReDoc at /api/redoc; end the document with a newline."""
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

    [made] = [route for route in app.routes if getattr(route, "path", "") == app.openapi_url]
    app.routes.remove(made)

    async def openapi(request: Request) -> Response:
        document: Response = await cast(Route, made).endpoint(request)
        end_line(document)
        return document

    app.add_route(str(app.openapi_url), openapi, include_in_schema=False)
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
