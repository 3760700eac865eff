"""Dependencies for the database and the caller; `resources.py` has those for rows and lists."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated, Any, cast

from fastapi import Depends, Request
from fastapi.dependencies.models import Dependant
from fastapi.security import APIKeyHeader, OAuth2PasswordBearer
from pydantic import BaseModel

from timberframe.accounts import Accounts
from timberframe.crud.idempotency import AlreadyAnswered, KeyedRequest
from timberframe.crud.policy import Principal
from timberframe.data.query import Rows
from timberframe.data.session import Database
from timberframe.data.unit_of_work import UnitOfWork
from timberframe.errors import InvalidToken, NotAuthenticated, NotPermitted
from timberframe.http.exchange import exchange_of
from timberframe.http.idempotency import content_of, has_kept_answer, read_key
from timberframe.security.tokens import Tokens

SAFE_METHODS = ("GET", "HEAD")  # RFC 9110 section 9.2.1, of the methods that are served


async def get_db(request: Request) -> AsyncIterator[UnitOfWork]:
    """The unit of work of one request; for a safe method it is read-only."""
    database = database_of(request)
    if request.method in SAFE_METHODS:
        async with database.reading() as db:
            yield cast(UnitOfWork, db)
            if db.new or db.dirty or db.deleted:  # never flushed, so no database refuses them
                raise RuntimeError(
                    f"{request.method} changed rows, which are never stored:"
                    " change them in a POST, PUT, PATCH or DELETE"
                )
        return
    async with _noting_write(request):
        keyed = await get_keyed_request(request)
        async with _unit_of_work(request, keyed) as db:
            yield db


async def get_write(request: Request) -> AsyncIterator[Rows]:
    """For a request that writes with a single statement, which is a unit of work by itself.

    With an `Idempotency-Key`, the statement and the stored answer share one transaction.
    """
    async with _noting_write(request):
        if keyed := await get_keyed_request(request):
            async with _unit_of_work(request, keyed) as db:
                yield db
        else:
            yield database_of(request)


@asynccontextmanager
async def _unit_of_work(request: Request, keyed: KeyedRequest | None) -> AsyncIterator[UnitOfWork]:
    database = database_of(request)
    if has_kept_answer(request):  # the handler will not run
        async with database.reading() as session:
            yield cast(UnitOfWork, session)
        return
    async with database.transaction(first=keyed.claim if keyed else None) as db:
        exchange_of(request).keep = partial(keyed.remember, db) if keyed else None
        yield db


@asynccontextmanager
async def _noting_write(request: Request) -> AsyncIterator[None]:
    """Note that the caller has written, once the write is committed.

    A kept answer is noted again: the process may have died between the commit and the note.
    """
    try:
        yield
    except AlreadyAnswered:
        await _note_write(request)
        raise
    await _note_write(request)


async def _note_write(request: Request) -> None:
    if caller := exchange_of(request).caller:
        await accounts_of(request).note_write(database_of(request), caller.id)


# With the default scope the commit would follow the response, and a failed one would answer 200.
DbSession = Annotated[UnitOfWork, Depends(get_db, scope="function")]
DbWrite = Annotated[Rows, Depends(get_write, scope="function")]


async def get_keyed_request(request: Request) -> KeyedRequest | None:
    """The request with its `Idempotency-Key`, or None without one.

    A kept answer replaces the call of the handler, after all dependencies have run: they check
    what the caller may do now. The first statement of the transaction claims the key, so a handler
    can hash a password before it without holding a lock.
    """
    exchange = exchange_of(request)
    exchange.kept_answer = None  # of an earlier attempt
    key = read_key(request)
    if key is None:
        return None
    # Load the caller here: without a key, public routes need no caller; with one, a closed
    # account must not get a kept answer.
    caller = await get_optional_user(request)
    database = database_of(request)
    keyed = KeyedRequest.of(
        key,
        caller_id=caller.id if caller else None,
        content=await content_of(request),
        keys=database.keys,
        lifetime=request.app.state.options.idempotency_lifetime,
    )
    async with database.statements() as db:
        exchange.kept_answer = await (await db.connection()).run_sync(keyed.find)
    return keyed


def units_of_work(dependant: Dependant) -> set[str]:
    """Which of `DbSession` and `DbWrite` a route depends on, directly or indirectly."""
    names: dict[Any, str] = {get_db: "DbSession", get_write: "DbWrite"}
    own = {name for call, name in names.items() if call is dependant.call}
    return own.union(*map(units_of_work, dependant.dependencies))


def may_be_anonymous(dependant: Dependant) -> bool:
    """Whether a route looks at the caller but does not require one."""
    asked = set(calls_of(dependant))
    return get_optional_user in asked and get_current_user not in asked


def headers_read(dependant: Dependant) -> Iterator[str]:
    """The request headers that a route declares: `Header`, models of headers, `APIKeyHeader`."""
    for field in dependant.header_params:
        model = field.field_info.annotation
        if isinstance(model, type) and issubclass(model, BaseModel):
            for name, info in model.model_fields.items():
                yield info.alias or name.replace("_", "-")
        else:
            yield field.alias
    if isinstance(dependant.call, APIKeyHeader):
        yield dependant.call.model.name
    for each in dependant.dependencies:
        yield from headers_read(each)


def calls_of(dependant: Dependant) -> Iterator[Any]:
    """The functions that a route depends on, directly or indirectly."""
    yield dependant.call
    for each in dependant.dependencies:
        yield from calls_of(each)


def database_of(request: Request) -> Database:
    database: Database = request.app.state.database
    return database


def accounts_of(request: Request) -> Accounts[Any, Any, Any]:
    accounts: Accounts[Any, Any, Any] = request.app.state.accounts
    return accounts


async def get_database(request: Request) -> Database:
    return database_of(request)


# For reads that need no session: rows as JSON, one round trip each.
DbRead = Annotated[Database, Depends(get_database)]


class CallerScheme(OAuth2PasswordBearer):
    """The caller by their bearer token, None without credentials; bad credentials are refused.

    The caller is read outside the request's transaction, so that nothing is locked while a handler
    hashes a password. The scheme and the lookup are one dependency, because each costs time.
    """

    async def __call__(self, request: Request) -> Principal | None:  # type: ignore[override]
        credentials = request.headers.getlist("authorization")
        if not credentials:
            return None
        token = await super().__call__(request)
        if token is None or len(credentials) > 1:
            raise NotAuthenticated
        state = request.app.state
        tokens: Tokens = state.tokens
        user = await accounts_of(request).get_principal(state.database, tokens.read(token))
        if user is None:
            raise InvalidToken
        exchange_of(request).caller = user
        return user


# The token's URL is filled in by openapi.py, which knows the routes.
get_optional_user = CallerScheme(tokenUrl="", scheme_name="OAuth2PasswordBearer", auto_error=False)

OptionalUser = Annotated[Principal | None, Depends(get_optional_user)]


async def get_current_user(user: OptionalUser) -> Principal:
    if user is None:
        raise NotAuthenticated
    return user


# The guide's name for it: `get_optional_user` already refuses inactive users.
get_current_active_user = get_current_user
CurrentUser = Annotated[Principal, Depends(get_current_active_user)]


async def get_current_superuser(current_user: CurrentUser) -> Principal:
    if not current_user.is_superuser:
        raise NotPermitted
    return current_user


CurrentSuperuser = Annotated[Principal, Depends(get_current_superuser)]
superuser_only = Depends(get_current_superuser)
