"""Signatures of deliveries, as Standard Webhooks 1.0 describes them (v1: HMAC-SHA256)."""

import base64
import hmac
import re
import secrets as random
from collections.abc import Sequence
from datetime import datetime

_PREFIX = "whsec_"
_SECRET_BYTES = 32  # the specification asks for 24 to 64
_ID = re.compile(r"[A-Za-z0-9_-]+")


def new_secret() -> str:
    """A random secret in the form that libraries of receivers take."""
    return _PREFIX + base64.b64encode(random.token_bytes(_SECRET_BYTES)).decode()


def signature_headers(
    body: bytes, secrets: Sequence[str], *, message_id: str, sent_at: datetime
) -> dict[str, str]:
    """The headers of one attempt; `body` must be sent exactly as it is.

    `message_id` stays the same in all attempts, so that a receiver can ignore a repetition. While a
    secret is being replaced, both the new one and the old one sign.
    """
    if not _ID.fullmatch(message_id):
        # With a dot in it, another id and time could have the same signature.
        raise ValueError("message_id must be letters, digits, - and _")
    if not secrets:
        raise ValueError("a delivery needs a secret")
    timestamp = str(int(sent_at.timestamp()))
    signed = f"{message_id}.{timestamp}.".encode() + body
    return {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(_sign(secret, signed) for secret in secrets),
    }


def _sign(secret: str, signed: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    return f"v1,{base64.b64encode(hmac.digest(key, signed, 'sha256')).decode()}"
