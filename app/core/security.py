"""Passwords (Argon2id, OWASP's parameters), tokens (JWT, RFC 8725 and 9068), keyed hashes."""

import asyncio
import ctypes
import hashlib
import hmac
import os
import secrets
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from typing import TypeVar

import jwt
from jwt.utils import base64url_encode
from pwdlib import PasswordHash
from pwdlib.exceptions import PwdlibError
from pwdlib.hashers.argon2 import Argon2Hasher
from pwdlib.hashers.bcrypt import BcryptHasher

from app.core.config import settings
from app.core.errors import InvalidToken, Unavailable

T = TypeVar("T")

ACCESS_TOKEN_TYPE = "at+jwt"  # noqa: S105 - RFC 9068 section 2.1, not a secret
MAX_TOKEN_LENGTH = 4096  # refused before it is parsed
MAX_KNOWN_TOKENS = 4096  # verified once, not at each request
MAX_WAITING_HASHES = 256
MAX_HASHING_SECONDS = 30  # with the wait for those before it

_HASHING_NICENESS = 15  # a thirtieth of a core that others want too
_M_MMAP_THRESHOLD = -3  # of mallopt(3)


def _return_large_blocks() -> None:
    """Let glibc give a hash's 19 MiB back when it is freed, and not keep them for the next one."""
    if sys.platform == "linux":
        with suppress(AttributeError):  # another libc
            ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 1024 * 1024)


def _step_back() -> None:
    """Who waits for a row does not wait for a hash."""
    if sys.platform == "linux":  # elsewhere a thread has no priority of its own
        with suppress(OSError):  # forbidden here
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _HASHING_NICENESS)


_return_large_blocks()
# bcrypt only reads hashes that were brought along; new ones are always Argon2id.
_passwords = PasswordHash(
    (Argon2Hasher(time_cost=2, memory_cost=19456, parallelism=1), BcryptHasher())
)
# Of a random password that nobody has kept: what is checked where there is no user.
_NO_SUCH_USER = (
    "$argon2id$v=19$m=19456,t=2,p=1"
    "$R2VLccRiA4TOijBcas1yVw$UlBaudJUhq5J5UXTMByH6BXU6xmDyQkle/2mhOvKqeA"
)

# A hash costs about 20 ms of a core and 19 MiB: few at once, off the event loop, one core left.
_hashing = ThreadPoolExecutor(
    max(1, (os.cpu_count() or 1) - 1), thread_name_prefix="hash", initializer=_step_back
)
_waiting_hashes = 0


async def get_password_hash(password: str) -> str:
    return await _run_hashing(lambda: _passwords.hash(password))


async def verify_password(password: str, hashed_password: str | None) -> tuple[bool, str | None]:
    """Whether the password is right, and a new hash when the stored one is outdated.

    Without a stored hash the same work is done, so that time does not tell who has an account.
    """
    return await _run_hashing(lambda: _verify(password, hashed_password))


def _verify(password: str, hashed_password: str | None) -> tuple[bool, str | None]:
    try:
        is_right, new_hash = _passwords.verify_and_update(
            password, hashed_password or _NO_SUCH_USER
        )
    except (PwdlibError, ValueError):
        # An unknown hash format, or more than the 72 bytes that bcrypt reads.
        return False, None
    return (is_right, new_hash) if hashed_password else (False, None)


async def _run_hashing(work: Callable[[], T]) -> T:
    global _waiting_hashes
    if _waiting_hashes >= MAX_WAITING_HASHES:
        raise Unavailable("Password checking")
    _waiting_hashes += 1
    try:
        async with asyncio.timeout(MAX_HASHING_SECONDS):
            return await asyncio.get_running_loop().run_in_executor(_hashing, work)
    except TimeoutError:
        raise Unavailable("Password checking") from None
    finally:
        _waiting_hashes -= 1


def create_access_token(user_id: int) -> str:
    now = datetime.now(UTC)
    claims = {
        "iss": settings.TOKEN_ISSUER,
        "aud": settings.TOKEN_AUDIENCE,
        "sub": str(user_id),
        "iat": now,
        "exp": now + timedelta(minutes=settings.ACCESS_TOKEN_EXPIRE_MINUTES),
        "jti": secrets.token_urlsafe(16),
    }
    return jwt.encode(
        claims,
        settings.SECRET_KEY.get_secret_value(),
        algorithm=settings.ALGORITHM,
        headers={"typ": ACCESS_TOKEN_TYPE},
    )


def read_access_token(token: str) -> int:
    """The user's id in a valid access token; anything else raises `InvalidToken`."""
    if len(token) > MAX_TOKEN_LENGTH:
        raise InvalidToken
    user_id, expires_at = _verify_access_token(
        token,
        key=settings.SECRET_KEY.get_secret_value(),
        algorithm=settings.ALGORITHM,
        issuer=settings.TOKEN_ISSUER,
        audience=settings.TOKEN_AUDIENCE,
    )
    if time.time() >= expires_at:
        raise InvalidToken
    return user_id


@lru_cache(MAX_KNOWN_TOKENS)
def _verify_access_token(
    token: str, *, key: str, algorithm: str, issuer: str, audience: str
) -> tuple[int, int]:
    """The user's id, and when it expires: all else of a token that was good once stays good.

    Only what the signature covers is kept; whether the user may still come in, the database is
    asked each time.
    """
    try:
        verified = jwt.decode_complete(
            token,
            key,
            algorithms=[algorithm],
            issuer=issuer,
            audience=audience,
            options={"require": ["exp", "iat", "sub", "jti", "iss", "aud"]},
        )
        payload = verified["payload"]
        times = [payload[name] for name in ("exp", "iat", "nbf") if name in payload]
        user_id, expires_at = int(payload["sub"]), int(payload["exp"])
        # int() takes 1_0, +1 and digits of other scripts too. A time is a number: RFC 7519.
        if str(user_id) != payload["sub"] or any(type(t) not in (int, float) for t in times):
            raise InvalidToken
    except (jwt.InvalidTokenError, ValueError):
        raise InvalidToken from None
    # Base64 has several spellings of the same bytes: a token has one.
    spelling = base64url_encode(verified["signature"]).decode()
    if verified["header"].get("typ") != ACCESS_TOKEN_TYPE or not token.endswith(f".{spelling}"):
        raise InvalidToken
    return user_id, expires_at


def keyed_hash(purpose: str, message: bytes) -> bytes:
    """Keyed BLAKE2b, RFC 7693, 32 bytes: who lacks the key cannot try out guesses.

    Each purpose has a key of its own. An HMAC by OpenSSL costs four times as much.
    """
    key = _key_for(purpose, settings.SECRET_KEY.get_secret_value())
    return hashlib.blake2b(message, key=key, digest_size=32).digest()


@cache
def _key_for(purpose: str, secret_key: str) -> bytes:
    return hmac.digest(secret_key.encode(), purpose.encode(), "sha256")
