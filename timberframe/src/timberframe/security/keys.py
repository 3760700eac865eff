"""Keyed hashes: for values that clients must not forge, and for secrets that are looked up."""

import hashlib
import hmac
from functools import cache


class Keys:
    """A key for each purpose, derived from one secret."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()
        self._key_for = cache(self._derive)

    def hash(self, purpose: str, message: bytes) -> bytes:
        """Keyed BLAKE2b (RFC 7693), 32 bytes: without the key nobody can try out guesses.

        An HMAC by OpenSSL costs four times as much.
        """
        return hashlib.blake2b(message, key=self._key_for(purpose), digest_size=32).digest()

    def _derive(self, purpose: str) -> bytes:
        return hmac.digest(self._secret, purpose.encode(), "sha256")
