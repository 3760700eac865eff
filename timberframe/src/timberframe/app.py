"""Creates the application: its routers, its middleware, and the resources that requests share."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts
from granian.utils.proxies import wrap_asgi_with_proxy_headers
from sqlalchemy.orm import configure_mappers

from timberframe.accounts import Accounts
from timberframe.data.options import DatabaseOptions
from timberframe.data.session import open_database
from timberframe.errors import WrongDeclaration
from timberframe.http import health
from timberframe.http.bodies import Bodies, BodyLimit
from timberframe.http.bulk import TransferSlots, body_is_file
from timberframe.http.dependencies import headers_read
from timberframe.http.dev_mail import add_mail_pages
from timberframe.http.docs import add_docs
from timberframe.http.events import EventStreams
from timberframe.http.middleware import CORS, Compression, RequestContext, RequestLimits, RootPath
from timberframe.http.openapi import complete_schema, operation_ids
from timberframe.http.options import HttpOptions
from timberframe.http.problems import add_error_handlers
from timberframe.http.routing import RouteIndex
from timberframe.http.sign_in import SignInLimits, is_token_endpoint
from timberframe.jobs import Job
from timberframe.logging import configure_logging
from timberframe.mail import MailOptions
from timberframe.open_files import max_connections
from timberframe.security.rate_limit import open_rate_limiter
from timberframe.security.tokens import Tokens
from timberframe.settings import Settings

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


def create_app(
    settings: Settings,
    *,
    accounts: Accounts[Any, Any, Any],
    routers: Mapping[str, APIRouter],
    jobs: Sequence[Job[Any]] = (),
    headers: Mapping[str, str] = {},
) -> FastAPI:
    """The application with `routers`, each under its prefix; `headers` are sent with every answer.

    `jobs` are those that its workers run.

    Ids of operations are the names of handlers; under all prefixes but the first they begin with
    the prefix, so that several versions of an API may have the same routers. The application
    connects to the database only when a request first needs it.
    """
    configure_mappers()  # or a wrong relationship would fail in the first request
    options = HttpOptions.of(settings)
    app = FastAPI(
        title=settings.PROJECT_NAME,
        version=settings.VERSION,
        description=settings.DESCRIPTION,
        contact={"name": settings.PROJECT_NAME},
        openapi_url="/api/openapi.json" if settings.DOCS_ENABLED else None,
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=operation_ids(list(routers)),
        # The login form is the only one, and anybody may send it. Each field may be as large as the
        # body: unknown parameters are ignored, and some of OAuth's are long.
        form_limits={"max_fields": 20, "max_files": 0, "max_part_size": SIGN_IN_MAX_BODY_BYTES},
        lifespan=_lifespan,
    )
    app.state.settings = settings
    app.state.options = options
    app.state.accounts = accounts
    app.state.jobs = {job.name: job for job in jobs}
    if len(app.state.jobs) < len(jobs):
        raise WrongDeclaration("jobs: two have the same name, by which workers know them")
    app.state.tokens = Tokens.of(settings)
    app.state.sign_in_limits = SignInLimits.of(settings)
    app.state.header_names = frozenset(headers)
    app.state.transfer_slots = TransferSlots(settings.DATABASE_POOL_SIZE)
    for prefix, router in routers.items():
        app.include_router(router, prefix=prefix)
    app.include_router(health.router)
    contexts = iter_route_contexts(app.routes)
    routes = [route for route in contexts if isinstance(route.original_route, APIRoute)]
    app.state.token_paths = frozenset(_paths(routes, is_token_endpoint))
    if settings.DIRECT_READS:
        app.router.routes.insert(0, RouteIndex(app.routes))
    add_error_handlers(app)
    complete_schema(app, options)
    if settings.DOCS_ENABLED:
        add_docs(app)
    if not settings.is_production:
        mail = MailOptions.of(settings)
        add_mail_pages(app, mail, takes_any_host=not settings.ALLOWED_HOSTS)
    _add_middleware(app, settings, routes, headers)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open the resources that requests share, and close them at the end."""
    settings: Settings = app.state.settings
    configure_logging(settings)
    async with (
        open_database(DatabaseOptions.of(settings)) as database,
        open_rate_limiter(settings) as rate_limiter,
    ):
        app.state.database = database
        app.state.event_streams = streams = EventStreams(database, settings)
        app.state.rate_limiter = rate_limiter
        try:
            yield
        finally:
            await streams.end()


def _add_middleware(
    app: FastAPI, settings: Settings, routes: Sequence[RouteContext], headers: Mapping[str, str]
) -> None:
    """Add the middleware from the inside out."""
    form = BodyLimit(SIGN_IN_MAX_BODY_BYTES, settings.BODY_TIMEOUT_SECONDS)
    file = BodyLimit(settings.IMPORT_MAX_BODY_BYTES, settings.IMPORT_BODY_TIMEOUT_SECONDS)
    limits = dict.fromkeys(_paths(routes, is_token_endpoint), form)
    limits |= dict.fromkeys(_paths(routes, body_is_file), file)
    app.add_middleware(
        RequestLimits,
        allowed_hosts=settings.ALLOWED_HOSTS,
        bodies=Bodies(
            piece_seconds=settings.BODY_PIECE_TIMEOUT_SECONDS,
            most_waiting=max_connections(settings) // 2,
        ),
        limit=BodyLimit(settings.MAX_BODY_BYTES, settings.BODY_TIMEOUT_SECONDS),
        other_limits={f"{settings.ROOT_PATH}{path}": limit for path, limit in limits.items()},
    )
    app.add_middleware(Compression)
    app.add_middleware(
        CORS,
        allow_origins=settings.ALLOWED_ORIGINS,
        # With `*` every site could act with the visitor's credentials.
        allow_credentials="*" not in settings.ALLOWED_ORIGINS,
        allow_methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"],
        allow_headers={*ALLOWED_HEADERS, *_headers_read(routes)},
        expose_headers=sorted({*EXPOSED_HEADERS, *headers, *_headers_documented(routes)}),
    )
    app.add_middleware(RequestContext, server_name=settings.project.name, headers=headers)
    if settings.ROOT_PATH:
        app.add_middleware(RootPath, root_path=settings.ROOT_PATH)
    if settings.TRUSTED_PROXIES:
        app.add_middleware(wrap_asgi_with_proxy_headers, trusted_hosts=settings.TRUSTED_PROXIES)


def _paths(routes: Iterable[RouteContext], has_property: Any) -> list[str]:
    """The paths of the routes whose dependencies have a property."""
    return [
        route.path_format for route in routes if route.path_format and has_property(route.dependant)
    ]


def _headers_read(routes: Iterable[RouteContext]) -> set[str]:
    return {name for route in routes for name in headers_read(route.dependant)}


def _headers_documented(routes: Iterable[RouteContext]) -> set[str]:
    """The headers of answers that the routes name in their `responses`."""
    responses = (each for route in routes for each in route.responses.values())
    return {name for response in responses for name in response.get("headers", ())}
