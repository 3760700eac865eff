"""Proving who one is with a password: guessing is bounded, and answers and times tell nothing."""

import asyncio
import hashlib
import ipaddress
from typing import Annotated
from weakref import WeakValueDictionary

from fastapi import Depends, Request
from limits import RateLimitItemPerMinute

from app import models
from app.core.config import settings
from app.core.errors import NotAuthenticated, NotPermitted, Unavailable
from app.core.rate_limit import RateLimiter
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

_turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()


class PasswordCheck:
    """Checks passwords for one request; failures count for the account and for the address."""

    def __init__(self, request: Request) -> None:
        self.database: Database = request.app.state.database
        self.limiter: RateLimiter = request.app.state.rate_limiter
        self.address = client_address(request)

    async def authenticate(self, login: str, password: str) -> models.User:
        """The active user with this e-mail or username and password, or `NotAuthenticated`."""
        async with self.database.reading() as db:
            user = await user_crud.get_by_login(db, login=login)
        # One counter for an account, whichever of its names is tried, and one for each other name.
        account = str(user.id) if user else _digest(canonical_login(login))
        if not await self._passes(account, user, password) or user is None:
            raise NotAuthenticated("Incorrect username or password")
        return user

    async def confirm(self, user: models.User, password: str | None) -> None:
        """Raise unless this is the password of `user`, who is signed in already."""
        if password is None or not await self._passes(str(user.id), user, password):
            raise NotPermitted("The current_password is missing or wrong")

    async def _passes(self, account: str, user: models.User | None, password: str) -> bool:
        await self.limiter.take(PER_ADDRESS, self.address)
        # One by one, so that an owner who signs in often at once does not fill his own window.
        async with _turns.setdefault(account, asyncio.Lock()):
            return await self._passes_in_turn(account, user, password)

    async def _passes_in_turn(self, account: str, user: models.User | None, password: str) -> bool:
        # Counted before the check and given back after it: guesses sent at once cannot slip by.
        await self.limiter.take(PER_ACCOUNT, account)
        stored_hash = user.hashed_password if user and user.is_active else None
        try:
            is_right, new_hash = await verify_password(password, stored_hash)
        except Unavailable:
            await self._give_back(account)
            raise
        if is_right:
            await self._give_back(account)
        if new_hash and user:
            async with self.database.transaction() as db:
                await user_crud.replace_hash(db, user=user, new_hash=new_hash)
        return is_right

    async def _give_back(self, account: str) -> None:
        await self.limiter.give_back(PER_ADDRESS, self.address)
        await self.limiter.give_back(PER_ACCOUNT, account)


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
