"""Sign-in with a password: guesses are limited, and answers and timing reveal no account."""

import asyncio
import hashlib
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Self
from weakref import WeakValueDictionary

import structlog
from fastapi import Depends, Form, Request, Response
from fastapi.dependencies.models import Dependant
from limits import RateLimitItem, RateLimitItemPerMinute

from timberframe.accounts import Account
from timberframe.errors import (
    InvalidInput,
    NotAuthenticated,
    NotPermitted,
    RateLimited,
    Unavailable,
    UnsupportedMediaType,
)
from timberframe.http.dependencies import accounts_of, database_of
from timberframe.schemas.fields import canonical_login
from timberframe.schemas.token import LoginForm, Token
from timberframe.security.rate_limit import Attempt, RateLimiter
from timberframe.security.tokens import Tokens
from timberframe.settings import Settings

log = structlog.get_logger()

_locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()


@dataclass(frozen=True)
class SignInLimits:
    """The limits on failed sign-ins and on sign-ups."""

    per_account: RateLimitItem
    per_address: RateLimitItem
    sign_ups: RateLimitItem

    @classmethod
    def of(cls, settings: Settings) -> Self:
        minutes = settings.SIGN_IN_WINDOW_MINUTES
        account, address = (
            settings.SIGN_IN_FAILURES_PER_ACCOUNT,
            settings.SIGN_IN_FAILURES_PER_ADDRESS,
        )
        return cls(
            per_account=RateLimitItemPerMinute(account, minutes, "sign-in/account"),
            per_address=RateLimitItemPerMinute(address, minutes, "sign-in/address"),
            sign_ups=RateLimitItemPerMinute(
                settings.SIGN_UPS_PER_MINUTE, namespace="sign-up/address"
            ),
        )


class PasswordCheck:
    """Checks passwords for one request; failures count for the account and for the address."""

    def __init__(self, request: Request) -> None:
        self.database = database_of(request)
        self.accounts = accounts_of(request)
        self.limiter: RateLimiter = request.app.state.rate_limiter
        self.limits: SignInLimits = request.app.state.sign_in_limits
        self.address = client_address(request)

    async def authenticate(self, login: str, password: str) -> Account:
        """The active user with this e-mail or username and password, or `NotAuthenticated`.

        Only the address's limit raises `RateLimited`. All names of an account share one counter: if
        a full one had an answer of its own, it would reveal which e-mail and username belong
        together.
        """
        name = _digest(canonical_login(login))
        async with self.database.reading() as db:
            user: Account | None = await self.accounts.get_by_login(db, login=login)
        account = str(user.id) if user else name
        from_address = await self.limiter.take(self.limits.per_address, self.address)
        async with _lock_of(name):
            try:
                is_right = await self._check(account, user, password, from_address)
            except RateLimited:
                log.warning("account_limited", user_id=user.id if user else None)
                # Take as long as for a wrong password; the right one could need a new hash too.
                wrong = "\x7f" * len(password.encode())
                await self.accounts.passwords.verify(wrong, _hash_of(user))
                is_right = False
        if not is_right or user is None:
            raise NotAuthenticated("Incorrect username or password")
        return user

    async def confirm(self, user: Account, password: str | None) -> None:
        """Raise unless this is the password of `user`, who is signed in already."""
        if password is not None:
            from_address = await self.limiter.take(self.limits.per_address, self.address)
            async with _lock_of(str(user.id)):
                if await self._check(str(user.id), user, password, from_address):
                    return
        raise NotPermitted("The current_password is missing or wrong")

    async def _check(
        self, account: str, user: Account | None, password: str, from_address: Attempt
    ) -> bool:
        # Count before checking and refund on success, so parallel guesses cannot slip through.
        attempts = (from_address, await self.limiter.take(self.limits.per_account, account))
        try:
            is_right, new_hash = await self.accounts.passwords.verify(password, _hash_of(user))
        except Unavailable:
            await self._give_back(attempts)
            raise
        if is_right:
            await self._give_back(attempts)
        if new_hash and user:
            async with self.database.transaction() as db:
                await self.accounts.replace_hash(db, user=user, new_hash=new_hash)
        return is_right

    async def _give_back(self, attempts: Iterable[Attempt]) -> None:
        for attempt in attempts:
            await self.limiter.give_back(attempt)


def _lock_of(name: str) -> asyncio.Lock:
    """One sign-in at a time, so that an owner's parallel sign-ins do not fill their own counter.

    The lock is per name, not per account: if two names waited for each other, that would reveal
    that they belong together.
    """
    return _locks.setdefault(name, asyncio.Lock())


def _hash_of(user: Account | None) -> str | None:
    return user.hashed_password if user and user.is_active else None


def _digest(login: str) -> str:
    return hashlib.sha256(login.encode()).hexdigest()  # keeps e-mail addresses out of Redis


async def get_password_check(request: Request) -> PasswordCheck:
    return PasswordCheck(request)


PasswordChecked = Annotated[PasswordCheck, Depends(get_password_check)]


async def check_form(request: Request) -> None:
    """Require one value for each field, in the encoding that RFC 6749 section 3.2 prescribes.

    Of two values, two parsers could pick different ones.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/x-www-form-urlencoded":
        raise UnsupportedMediaType("application/x-www-form-urlencoded")
    form = await request.form()
    for name in LoginForm.model_fields:
        if len(form.getlist(name)) > 1:
            raise InvalidInput.at("body", name, msg="must be sent only once")


class PasswordSignIn:
    """The sign-in that a request asks for with OAuth2's password form."""

    def __init__(self, request: Request, response: Response, form: LoginForm) -> None:
        self._request = request
        self._response = response
        self._form = form

    async def token(self) -> Token:
        """An access token, or `NotAuthenticated`."""
        check = PasswordCheck(self._request)
        user = await check.authenticate(self._form.username, self._form.password)
        self._response.headers["Cache-Control"] = "no-store"  # RFC 6749 section 5.1
        tokens: Tokens = self._request.app.state.tokens
        seconds = int(tokens.lifetime.total_seconds())
        return Token(access_token=tokens.create(user.id), expires_in=seconds)


async def get_sign_in(
    request: Request,
    response: Response,
    form: Annotated[LoginForm, Form()],
    checked: Annotated[None, Depends(check_form)],
) -> PasswordSignIn:
    return PasswordSignIn(request, response, form)


SignIn = Annotated[PasswordSignIn, Depends(get_sign_in)]


def is_token_endpoint(dependant: Dependant) -> bool:
    """Whether a route exchanges a password for a token."""
    return any(each.call is get_sign_in for each in dependant.dependencies)


async def limit_sign_ups(request: Request) -> None:
    limiter: RateLimiter = request.app.state.rate_limiter
    limits: SignInLimits = request.app.state.sign_in_limits
    await limiter.take(limits.sign_ups, client_address(request))


def client_address(request: Request) -> str:
    """The caller's network: an IPv4 address, or the /64 that one IPv6 customer has."""
    try:
        address = ipaddress.ip_address(request.client.host if request.client else "")
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return str(ipaddress.ip_network((address, 64), strict=False))
        address = address.ipv4_mapped
    return str(address)
