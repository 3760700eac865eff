"""A request with an `Idempotency-Key`: claimed in its transaction, its answer kept and found."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self, cast

from sqlalchemy import (
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

from app.core.config import settings
from app.core.errors import IdempotencyKeyInUse, IdempotencyKeyReused
from app.core.security import keyed_hash
from app.db.base import utc_now
from app.db.retries import TransactionConflict
from app.models import IdempotencyKey

PURGED_AT_ONCE = 10

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
    """What a client sees again; `headers` are by their names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class AlreadyAnswered(Exception):
    """The same request was done before: this is what was answered."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.answer = answer


@dataclass(frozen=True)
class KeyedRequest:
    """Known by two hashes, with a secret key because a body may hold a password."""

    key_hash: bytes
    fingerprint: bytes

    @classmethod
    def of(cls, key: str, *, caller_id: int | None, content: bytes) -> Self:
        """`content` is all that makes it this request and no other."""
        return cls(
            key_hash=keyed_hash("idempotency-key", f"{caller_id} {key}".encode()),
            fingerprint=keyed_hash("idempotency-fingerprint", content),
        )

    def find(self, connection: Connection) -> Answer | None:
        """The kept answer; raise `IdempotencyKeyReused` if it is that of another request."""
        return self._answer_of(self._stored(connection))

    def claim(self, connection: Connection) -> None:
        """Keep the key until this transaction ends, as the first thing in it.

        Raise `TransactionConflict` if the same request has been answered since it was looked for.
        SQLite has one writer at a time: there, BEGIN IMMEDIATE has waited for any other.
        """
        if connection.dialect.name == "postgresql":
            number = int.from_bytes(self.key_hash[:8], signed=True)
            if not connection.scalar(_LOCK, {"number": number}):
                raise IdempotencyKeyInUse
        # A statement of its own: together with the lock it could see the state from before it.
        stored = self._stored(connection)
        if self._answer_of(stored):
            raise TransactionConflict("The same request was answered meanwhile")
        if stored:
            connection.execute(_FREE, {"expired_id": stored.id})

    async def remember(self, db: AsyncSession, answer: Answer) -> None:
        """Keep the answer in the transaction of its effect: both are committed, or neither.

        Each answer kept makes room for several, so that expired ones do not pile up; last, so that
        nothing is locked for long.
        """
        try:
            await db.execute(_KEEP, vars(self) | vars(answer))
        except IntegrityError:
            raise TransactionConflict("An idempotency key was claimed twice") from None
        await db.execute(_PURGE, {"oldest_valid": _oldest_valid()})

    def _stored(self, connection: Connection) -> Row[Any] | None:
        return connection.execute(_FIND, {"key_hash": self.key_hash}).first()

    def _answer_of(self, stored: Row[Any] | None) -> Answer | None:
        if stored is None or stored.created_at < _oldest_valid():
            return None
        if stored.fingerprint != self.fingerprint:
            raise IdempotencyKeyReused
        return Answer(stored.status, stored.headers, stored.body)


def _oldest_valid() -> datetime:
    return utc_now() - timedelta(hours=settings.IDEMPOTENCY_KEY_HOURS)
