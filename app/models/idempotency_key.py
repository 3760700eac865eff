"""Answers kept for retries, each under the hash of its caller and `Idempotency-Key`."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, Identified, UTCDateTime, utc_now


class IdempotencyKey(Identified, Base):
    __tablename__ = "idempotency_keys"

    key_hash: Mapped[bytes] = mapped_column(unique=True)
    fingerprint: Mapped[bytes]  # of method, path, query and body
    status: Mapped[int]
    headers: Mapped[dict[str, Any]] = mapped_column(JSON)
    body: Mapped[bytes]
    created_at: Mapped[datetime] = mapped_column(UTCDateTime, default=utc_now, index=True)
