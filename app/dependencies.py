"""What a route may ask for: the database and the caller; for pages and rows, `api/resources.py`."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated, Any

from fastapi import Depends, Path, Request
from fastapi.dependencies.models import Dependant
from fastapi.security import OAuth2PasswordBearer
from sqlalchemy.ext.asyncio import AsyncSession

from app import models
from app.core.config import settings
from app.core.errors import InvalidInput, InvalidToken, NotAuthenticated, NotFound, NotPermitted
from app.core.security import read_access_token
from app.crud.idempotency_key import AlreadyAnswered, KeyedRequest
from app.crud.policy import Principal
from app.crud.user import user_crud
from app.db.query import Write
from app.db.session import Database, in_session

TOKEN_PATH = f"{settings.API_V1_PREFIX}/auth/login"
IDEMPOTENCY_KEY = "Idempotency-Key"
IDEMPOTENCY_KEY_PATTERN = "[!-~]{1,255}"
SAFE_METHODS = ("GET", "HEAD")  # of those that are served, RFC 9110 section 9.2.1
IDEMPOTENCY_METHODS = ("POST", "PATCH")  # PUT and DELETE are idempotent, RFC 9110 section 9.2.2


async def get_db(request: Request) -> AsyncIterator[AsyncSession]:
    """The unit of work of one request; safe methods only read, so they need no transaction."""
    database: Database = request.app.state.database
    if request.method in SAFE_METHODS:
        async with database.reading() as db:
            yield db
        return
    async with _noting_write(request):
        keyed = await get_keyed_request(request)
        async with _unit_of_work(request, keyed) as db:
            yield db


async def get_write(request: Request) -> AsyncIterator[Write]:
    """For a request that changes rows by one statement: that is a unit of work by itself.

    With an `Idempotency-Key` it is one together with the answer that is kept.
    """
    database: Database = request.app.state.database
    async with _noting_write(request):
        if keyed := await get_keyed_request(request):
            async with _unit_of_work(request, keyed) as db:
                yield in_session(db)
        else:
            yield database.write


@asynccontextmanager
async def _unit_of_work(
    request: Request, keyed: KeyedRequest | None
) -> AsyncIterator[AsyncSession]:
    database: Database = request.app.state.database
    if has_kept_answer(request):  # the handler will not run
        async with database.reading() as db:
            yield db
        return
    async with database.transaction(first=keyed.claim if keyed else None) as db:
        request.state.remember = partial(keyed.remember, db) if keyed else None
        yield db


@asynccontextmanager
async def _noting_write(request: Request) -> AsyncIterator[None]:
    """That the caller wrote, once it is committed; again if it was so before, since the process
    may have died in between.
    """
    try:
        yield
    except AlreadyAnswered:
        await _note_write(request)
        raise
    await _note_write(request)


async def _note_write(request: Request) -> None:
    if caller := getattr(request.state, "caller", None):
        await user_crud.note_write(request.app.state.database, caller.id)


# With the default scope the commit would come after the response: a failure would answer 200.
DbSession = Annotated[AsyncSession, Depends(get_db, scope="function")]
DbWrite = Annotated[Write, Depends(get_write, scope="function")]


async def get_keyed_request(request: Request) -> KeyedRequest | None:
    """This request by its `Idempotency-Key`, if it has one.

    A kept answer is given instead of calling the handler, after all dependencies: they check what
    the caller may do now. The key is claimed with the first statement of the transaction: a handler
    may hash a password before that, and nothing is locked meanwhile.
    """
    request.state.kept_answer = None
    keys = request.headers.getlist(IDEMPOTENCY_KEY)
    if not keys or request.method not in IDEMPOTENCY_METHODS:
        return None
    if len(keys) > 1 or not re.fullmatch(IDEMPOTENCY_KEY_PATTERN, keys[0]):
        raise InvalidInput.at("header", IDEMPOTENCY_KEY, msg="must be 1 to 255 visible characters")
    # Read here, so that routes open to all need no caller without a key, and no closed account
    # is answered again.
    caller = await get_optional_user(request)
    keyed = KeyedRequest.of(
        keys[0], caller_id=caller.id if caller else None, content=await _content(request)
    )
    database: Database = request.app.state.database
    async with database.reading() as db:
        request.state.kept_answer = await (await db.connection()).run_sync(keyed.find)
    return keyed


def has_kept_answer(request: Request) -> bool:
    """Whether this is a retry of a request that was answered: then its effect is there already."""
    return getattr(request.state, "kept_answer", None) is not None


async def _content(request: Request) -> bytes:
    scope = request.scope
    target = [request.method, scope["path"], scope["query_string"].decode("latin-1")]
    return json.dumps(target).encode() + b"\n" + await request.body()


def units_of_work(dependant: Dependant) -> set[str]:
    """`DbSession` and `DbWrite`, if a route asks for them, itself or through what it asks for."""
    names: dict[Any, str] = {get_db: "DbSession", get_write: "DbWrite"}
    own = {name for call, name in names.items() if call is dependant.call}
    return own.union(*map(units_of_work, dependant.dependencies))


async def get_database(request: Request) -> Database:
    database: Database = request.app.state.database
    return database


# For reads that need no session: rows as JSON, one round trip each.
DbRead = Annotated[Database, Depends(get_database)]


class CallerScheme(OAuth2PasswordBearer):
    """Who sent a bearer token, None without credentials; bad ones are refused, never ignored.

    Read by itself, not in the request's transaction, so that nothing is locked while a handler
    hashes a password. It is the scheme and its use in one, because each dependency costs.
    """

    async def __call__(self, request: Request) -> Principal | None:  # type: ignore[override]
        credentials = request.headers.getlist("authorization")
        if not credentials:
            return None
        token = await super().__call__(request)
        if token is None or len(credentials) > 1:
            raise NotAuthenticated
        user_id = read_access_token(token)
        user = await user_crud.get_principal(request.app.state.database.fetch, user_id)
        if user is None:
            raise InvalidToken
        request.state.caller = user
        return user


get_optional_user = CallerScheme(
    tokenUrl=f"{settings.ROOT_PATH}{TOKEN_PATH}",
    scheme_name="OAuth2PasswordBearer",
    auto_error=False,
)

# For the documentation of routes that take an OptionalUser.
OPTIONAL_AUTH: dict[str, Any] = {"security": [{}]}
OptionalUser = Annotated[Principal | None, Depends(get_optional_user)]


async def get_current_user(user: OptionalUser) -> Principal:
    if user is None:
        raise NotAuthenticated
    return user


# The guide's name: nobody inactive gets past `get_optional_user`.
get_current_active_user = get_current_user
CurrentUser = Annotated[Principal, Depends(get_current_active_user)]


async def get_current_superuser(current_user: CurrentUser) -> Principal:
    if not current_user.is_superuser:
        raise NotPermitted
    return current_user


CurrentSuperuser = Annotated[Principal, Depends(get_current_superuser)]


async def get_own_account(database: DbRead, current_user: CurrentUser) -> models.User:
    """The caller's row; like the caller, read by itself."""
    async with database.reading() as db:
        user = await user_crud.get(db, current_user.id, viewer=current_user)
    if user is None:
        raise InvalidToken
    return user


UserId = Annotated[int, Path(description="The `id` of the user", examples=[1])]


async def get_user_in_path(
    user_id: UserId, db: DbSession, superuser: CurrentSuperuser
) -> models.User:
    """Not locked, unlike `writable`'s: superusers are locked in one order, he among them."""
    user = await user_crud.get(db, user_id, viewer=superuser)
    if user is None:
        raise NotFound("User")
    return user


async def check_self_or_superuser(user_id: UserId, current_user: CurrentUser) -> None:
    """Others learn nothing about who exists."""
    if user_id != current_user.id and not current_user.is_superuser:
        raise NotPermitted
