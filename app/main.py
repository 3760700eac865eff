"""The application: `app.main:app` for any ASGI server, `create_app()` for tests."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.routing import APIRoute
from granian.utils.proxies import wrap_asgi_with_proxy_headers

from app.api import health
from app.api.bodies import Bodies, BodyLimit
from app.api.docs import add_docs
from app.api.errors import add_error_handlers
from app.api.middleware import CORS, Compression, Gate, RequestContext, RootPath
from app.api.openapi import complete_schema
from app.api.routing import RouteIndex
from app.api.v1.api import api_router
from app.core.config import settings
from app.core.logging import configure_logging
from app.core.open_files import most_connections
from app.core.rate_limit import open_rate_limiter
from app.db.session import open_database

# Parsing a form takes far longer than its length suggests, and anybody may send this one.
SIGN_IN_MAX_BODY_BYTES = 16 * 1024
ALLOWED_HEADERS = [
    *("Authorization", "Content-Type", "X-Request-ID"),
    *("Idempotency-Key", "If-Match", "If-None-Match"),
]
EXPOSED_HEADERS = [
    *("Content-Disposition", "ETag", "Link", "Location", "Retry-After", "X-Request-ID"),
    "Idempotency-Replayed",
]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open what requests share; the database is first reached when it is first needed."""
    configure_logging()
    async with open_database() as database, open_rate_limiter() as rate_limiter:
        app.state.database = database
        app.state.rate_limiter = rate_limiter
        yield


def operation_id(route: APIRoute) -> str:
    return route.name


def create_app() -> FastAPI:
    app = FastAPI(
        title=settings.PROJECT_NAME,
        version=settings.VERSION,
        description=settings.DESCRIPTION,
        contact={"name": settings.PROJECT_NAME},
        openapi_url="/api/openapi.json" if settings.DOCS_ENABLED else None,
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=operation_id,
        # The login form is the only one, and anybody may send it. Each field may be as large as the
        # body: parameters that are not known are ignored, and some of OAuth's are long.
        form_limits={"max_fields": 20, "max_files": 0, "max_part_size": SIGN_IN_MAX_BODY_BYTES},
        lifespan=lifespan,
    )
    app.include_router(api_router, prefix=settings.API_V1_PREFIX)
    app.include_router(health.router)
    app.router.routes.insert(0, RouteIndex(app.routes))
    add_error_handlers(app)
    complete_schema(app)
    if settings.DOCS_ENABLED:
        add_docs(app)

    # From the inside out.
    prefix = f"{settings.ROOT_PATH}{settings.API_V1_PREFIX}"
    app.add_middleware(
        Gate,
        allowed_hosts=settings.ALLOWED_HOSTS,
        bodies=Bodies(
            piece_seconds=settings.BODY_PIECE_TIMEOUT_SECONDS,
            most_waiting=most_connections() // 2,
        ),
        limit=BodyLimit(settings.MAX_BODY_BYTES, settings.BODY_TIMEOUT_SECONDS),
        other_limits={
            f"{prefix}/auth/login": BodyLimit(
                SIGN_IN_MAX_BODY_BYTES, settings.BODY_TIMEOUT_SECONDS
            ),
            f"{prefix}/products/import": BodyLimit(
                settings.IMPORT_MAX_BODY_BYTES, settings.IMPORT_BODY_TIMEOUT_SECONDS
            ),
        },
    )
    app.add_middleware(Compression, secret_prefix=f"{prefix}/auth/")
    app.add_middleware(
        CORS,
        allow_origins=settings.ALLOWED_ORIGINS,
        # With `*` every site could act with the visitor's credentials.
        allow_credentials="*" not in settings.ALLOWED_ORIGINS,
        allow_methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"],
        allow_headers=ALLOWED_HEADERS,
        expose_headers=EXPOSED_HEADERS,
    )
    app.add_middleware(RequestContext)
    if settings.ROOT_PATH:
        app.add_middleware(RootPath, root_path=settings.ROOT_PATH)
    if settings.TRUSTED_PROXIES:
        app.add_middleware(wrap_asgi_with_proxy_headers, trusted_hosts=settings.TRUSTED_PROXIES)
    return app


app = create_app()
