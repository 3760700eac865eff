"""Proving who one is with a password: guessing is bounded, and answers and times tell nothing."""

import asyncio
import hashlib
import ipaddress
from collections.abc import Iterable
from typing import Annotated
from weakref import WeakValueDictionary

import structlog
from fastapi import Depends, Request
from limits import RateLimitItemPerMinute

from app import models
from app.core.config import settings
from app.core.errors import NotAuthenticated, NotPermitted, RateLimited, Unavailable
from app.core.rate_limit import Attempt, RateLimiter
from app.core.security import verify_password
from app.crud.user import user_crud
from app.db.session import Database
from app.schemas.base import canonical_login

PER_ACCOUNT = RateLimitItemPerMinute(
    settings.SIGN_IN_FAILURES_PER_ACCOUNT, settings.SIGN_IN_WINDOW_MINUTES, "sign-in/account"
)
PER_ADDRESS = RateLimitItemPerMinute(
    settings.SIGN_IN_FAILURES_PER_ADDRESS, settings.SIGN_IN_WINDOW_MINUTES, "sign-in/address"
)
SIGN_UPS = RateLimitItemPerMinute(settings.SIGN_UPS_PER_MINUTE, namespace="sign-up/address")

log = structlog.get_logger()

_turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()


class PasswordCheck:
    """Checks passwords for one request; failures count for the account and for the address."""

    def __init__(self, request: Request) -> None:
        self.database: Database = request.app.state.database
        self.limiter: RateLimiter = request.app.state.rate_limiter
        self.address = client_address(request)

    async def authenticate(self, login: str, password: str) -> models.User:
        """The active user with this e-mail or username and password, or `NotAuthenticated`.

        `RateLimited` is for the address alone. All names of an account share one counter: if a
        full one had an answer of its own, it would tell which e-mail belongs to which username.
        """
        name = _digest(canonical_login(login))
        async with self.database.reading() as db:
            user = await user_crud.get_by_login(db, login=login)
        account = str(user.id) if user else name
        from_address = await self.limiter.take(PER_ADDRESS, self.address)
        async with _turn(name):
            try:
                is_right = await self._check(account, user, password, from_address)
            except RateLimited:
                log.warning("account_limited", user_id=user.id if user else None)
                # The work of a wrong password. The right one could cost a second hash, a new one.
                await verify_password("\x7f" * len(password.encode()), _hash_of(user))
                is_right = False
        if not is_right or user is None:
            raise NotAuthenticated("Incorrect username or password")
        return user

    async def confirm(self, user: models.User, password: str | None) -> None:
        """Raise unless this is the password of `user`, who is signed in already."""
        if password is not None:
            from_address = await self.limiter.take(PER_ADDRESS, self.address)
            async with _turn(str(user.id)):
                if await self._check(str(user.id), user, password, from_address):
                    return
        raise NotPermitted("The current_password is missing or wrong")

    async def _check(
        self, account: str, user: models.User | None, password: str, from_address: Attempt
    ) -> bool:
        # Count before checking and give back on success, so parallel guesses cannot slip through.
        attempts = (from_address, await self.limiter.take(PER_ACCOUNT, account))
        try:
            is_right, new_hash = await verify_password(password, _hash_of(user))
        except Unavailable:
            await self._give_back(attempts)
            raise
        if is_right:
            await self._give_back(attempts)
        if new_hash and user:
            async with self.database.transaction() as db:
                await user_crud.replace_hash(db, user=user, new_hash=new_hash)
        return is_right

    async def _give_back(self, attempts: Iterable[Attempt]) -> None:
        for attempt in attempts:
            await self.limiter.give_back(attempt)


def _turn(name: str) -> asyncio.Lock:
    """One at a time, so that an owner who signs in often at once does not fill their own counter.

    For each name, not for each account: whether two names wait for each other would tell too.
    """
    return _turns.setdefault(name, asyncio.Lock())


def _hash_of(user: models.User | None) -> str | None:
    return user.hashed_password if user and user.is_active else None


def _digest(login: str) -> str:
    return hashlib.sha256(login.encode()).hexdigest()  # Redis need not hold addresses


async def get_password_check(request: Request) -> PasswordCheck:
    return PasswordCheck(request)


PasswordChecked = Annotated[PasswordCheck, Depends(get_password_check)]


async def limit_sign_ups(request: Request) -> None:
    limiter: RateLimiter = request.app.state.rate_limiter
    await limiter.take(SIGN_UPS, client_address(request))


def client_address(request: Request) -> str:
    """The caller's network: an IPv4 address, or the /64 that one IPv6 customer has to himself."""
    try:
        address = ipaddress.ip_address(request.client.host if request.client else "")
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return str(ipaddress.ip_network((address, 64), strict=False))
        address = address.ipv4_mapped
    return str(address)
