"""Requests with an `Idempotency-Key`: claim the key and store the answer in a transaction."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self, cast

from sqlalchemy import (
    JSON,
    BigInteger,
    Connection,
    Row,
    Table,
    bindparam,
    delete,
    func,
    insert,
    select,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from timberframe.data.base import Base, Identified, utc_now
from timberframe.data.column_types import UTCDateTime
from timberframe.data.retries import TransactionConflict
from timberframe.errors import IdempotencyKeyInUse, IdempotencyKeyReused
from timberframe.security.keys import Keys

PURGED_AT_ONCE = 10


class IdempotencyKey(Identified, Base):
    """An answer stored for retries, under the hash of its caller and key."""

    __tablename__ = "idempotency_keys"

    key_hash: Mapped[bytes] = mapped_column(unique=True)
    fingerprint: Mapped[bytes]  # of method, path, query and body
    status: Mapped[int]
    headers: Mapped[dict[str, Any]] = mapped_column(JSON)
    body: Mapped[bytes]
    created_at: Mapped[datetime] = mapped_column(UTCDateTime, default=utc_now, index=True)


# Built once, not for each request.
_KEYS = cast(Table, IdempotencyKey.__table__)
_LOCK = select(func.pg_try_advisory_xact_lock(bindparam("number", type_=BigInteger)))
_FIND = select(_KEYS).where(_KEYS.c.key_hash == bindparam("key_hash"))
_FREE = delete(_KEYS).where(_KEYS.c.id == bindparam("expired_id"))
_KEEP = insert(_KEYS).inline()
# Rows that another request is deleting are skipped: nobody waits for a purge.
_PURGE = delete(_KEYS).where(
    _KEYS.c.id.in_(
        select(_KEYS.c.id)
        .where(_KEYS.c.created_at < bindparam("oldest_valid"))
        .order_by(_KEYS.c.created_at)
        .limit(PURGED_AT_ONCE)
        .with_for_update(skip_locked=True)
    )
)


@dataclass
class Answer:
    """A response to send again; header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class AlreadyAnswered(Exception):
    """The same request was answered before; `answer` is that response."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.answer = answer


@dataclass(frozen=True)
class KeyedRequest:
    """A request identified by two hashes, with a secret key because a body may hold a password.

    Its answer is kept for `lifetime`.
    """

    key_hash: bytes
    fingerprint: bytes
    lifetime: timedelta

    @classmethod
    def of(
        cls, key: str, *, caller_id: int | None, content: bytes, keys: Keys, lifetime: timedelta
    ) -> Self:
        """`content` is everything that distinguishes this request from others."""
        return cls(
            key_hash=keys.hash("idempotency-key", f"{caller_id} {key}".encode()),
            fingerprint=keys.hash("idempotency-fingerprint", content),
            lifetime=lifetime,
        )

    def find(self, connection: Connection) -> Answer | None:
        """The stored answer; raise `IdempotencyKeyReused` if it belongs to another request."""
        return self._answer_of(self._stored(connection))

    def claim(self, connection: Connection) -> None:
        """Lock the key until this transaction ends; this must be its first statement.

        Raise `IdempotencyKeyInUse` if another request holds the key, and `TransactionConflict` if
        the same request has been answered since `find`. On SQLite, BEGIN IMMEDIATE has already
        waited for any other writer.
        """
        if connection.dialect.name == "postgresql":
            number = int.from_bytes(self.key_hash[:8], signed=True)
            if not connection.scalar(_LOCK, {"number": number}):
                raise IdempotencyKeyInUse
        # A separate statement: in the one that locks, its snapshot could be from before the lock.
        stored = self._stored(connection)
        if self._answer_of(stored):
            raise TransactionConflict("The same request was answered meanwhile")
        if stored:
            connection.execute(_FREE, {"expired_id": stored.id})

    async def remember(self, db: AsyncSession, answer: Answer) -> None:
        """Store the answer in the transaction of its effect: both are committed, or neither.

        Each call also purges several expired answers, so that they do not pile up; it does so last,
        so that nothing is locked for long.
        """
        try:
            hashes = {"key_hash": self.key_hash, "fingerprint": self.fingerprint}
            await db.execute(_KEEP, hashes | vars(answer))
        except IntegrityError:
            raise TransactionConflict("An idempotency key was claimed twice") from None
        await db.execute(_PURGE, {"oldest_valid": self._oldest_valid()})

    def _stored(self, connection: Connection) -> Row[Any] | None:
        return connection.execute(_FIND, {"key_hash": self.key_hash}).first()

    def _answer_of(self, stored: Row[Any] | None) -> Answer | None:
        if stored is None or stored.created_at < self._oldest_valid():
            return None
        if stored.fingerprint != self.fingerprint:
            raise IdempotencyKeyReused
        return Answer(stored.status, stored.headers, stored.body)

    def _oldest_valid(self) -> datetime:
        return utc_now() - self.lifetime
