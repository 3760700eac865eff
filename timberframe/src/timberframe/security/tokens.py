"""Access tokens: JWTs according to RFC 8725 and RFC 9068."""

import secrets
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import jwt
from jwt.utils import base64url_encode

from timberframe.errors import InvalidToken
from timberframe.settings import Settings

ACCESS_TOKEN_TYPE = "at+jwt"  # noqa: S105 - RFC 9068 section 2.1, not a secret
MAX_TOKEN_LENGTH = 4096  # refused before it is parsed
MAX_KNOWN_TOKENS = 4096  # whose signature is verified once, not on each request


@dataclass(frozen=True)
class Tokens:
    """Creates and reads the access tokens of one issuer, for one audience."""

    key: str = field(repr=False)
    algorithm: str
    issuer: str
    audience: str
    lifetime: timedelta

    @classmethod
    def of(cls, settings: Settings) -> "Tokens":
        return cls(
            key=settings.SECRET_KEY.get_secret_value(),
            algorithm=settings.ALGORITHM,
            issuer=settings.TOKEN_ISSUER,
            audience=settings.TOKEN_AUDIENCE,
            lifetime=timedelta(minutes=settings.ACCESS_TOKEN_EXPIRE_MINUTES),
        )

    def create(self, user_id: int) -> str:
        now = datetime.now(UTC)
        claims = {
            "iss": self.issuer,
            "aud": self.audience,
            "sub": str(user_id),
            "iat": now,
            "exp": now + self.lifetime,
            "jti": secrets.token_urlsafe(16),
        }
        headers = {"typ": ACCESS_TOKEN_TYPE}
        return jwt.encode(claims, self.key, algorithm=self.algorithm, headers=headers)

    def read(self, token: str) -> int:
        """The user's id in a valid access token; anything else raises `InvalidToken`."""
        if len(token) > MAX_TOKEN_LENGTH:
            raise InvalidToken
        user_id, expires_at = _verify(token, self)
        if time.time() >= expires_at:
            raise InvalidToken
        return user_id

    def expires_at(self, token: str) -> float:
        """When a valid access token expires, as `time.time()` counts."""
        _, expires_at = _verify(token, self)
        return expires_at


@lru_cache(MAX_KNOWN_TOKENS)
def _verify(token: str, tokens: Tokens) -> tuple[int, int]:
    """The user's id, and when the token expires.

    Cached: apart from its expiry, a token that was valid once stays valid. Whether the user still
    has access is not cached: the database is asked each time.
    """
    try:
        verified = jwt.decode_complete(
            token,
            tokens.key,
            algorithms=[tokens.algorithm],
            issuer=tokens.issuer,
            audience=tokens.audience,
            options={"require": ["exp", "iat", "sub", "jti", "iss", "aud"]},
        )
        payload = verified["payload"]
        times = [payload[name] for name in ("exp", "iat", "nbf") if name in payload]
        user_id, expires_at = int(payload["sub"]), int(payload["exp"])
        # int() also takes 1_0, +1 and digits of other scripts. RFC 7519 has times as numbers.
        if str(user_id) != payload["sub"] or any(type(t) not in (int, float) for t in times):
            raise InvalidToken
    except (jwt.InvalidTokenError, ValueError):
        raise InvalidToken from None
    # Base64 has several spellings of the same bytes; accept only the canonical one.
    spelling = base64url_encode(verified["signature"]).decode()
    if verified["header"].get("typ") != ACCESS_TOKEN_TYPE or not token.endswith(f".{spelling}"):
        raise InvalidToken
    return user_id, expires_at
