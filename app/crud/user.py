"""Users: hashed passwords, sign-in names, and the rule that an active superuser always remains."""

import re
from datetime import timedelta
from typing import Any, cast

import structlog
from sqlalchemy import Table, bindparam, false, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app import schemas
from app.core.config import settings
from app.core.errors import Conflict, InvalidToken, NotFound, NotPermitted
from app.core.security import get_password_hash
from app.crud import deletion
from app.crud.base import CRUDBase
from app.crud.deletion import Deletion, check_nothing_forbids
from app.crud.filters import EQUALITY, RANGE
from app.crud.policy import Policy, Principal, everybody, owner, superusers
from app.crud.reading import Created
from app.crud.search import Search
from app.db.base import MAX_ID, UTCDateTime, utc_now
from app.db.query import AnySelect, Fetch, Write
from app.db.replica import CHECK_SECONDS
from app.db.session import Database
from app.models import User
from app.schemas import UserAdminUpdate, UserCreate, UserUpdate
from app.schemas.base import USERNAME, canonical_email

_USERS = cast(Table, User.__table__)

log = structlog.get_logger()


class CRUDUser(CRUDBase[User, UserCreate, UserUpdate | UserAdminUpdate]):
    policy = Policy(read=owner(User.id), write=superusers, create=everybody)
    schema = schemas.User
    filters = {
        User.email: (*EQUALITY, "prefix"),
        User.username: (*EQUALITY, "prefix"),
        User.full_name: ("isnull",),
        User.is_active: ("eq",),
        User.is_superuser: ("eq",),
        User.created_at: RANGE,
        User.updated_at: RANGE,
    }
    search = Search(User, User.email, User.username, User.full_name)
    sorted_by = (User.email, User.username, User.created_at, User.updated_at)

    async def get_principal(self, fetch: Fetch, id: int) -> Principal | None:
        """Whoever is signed in with this id, if their account is active."""
        if not 0 < id <= MAX_ID:
            return None
        # A replica's lag is known as it was some moments ago.
        seconds = settings.DATABASE_REPLICA_MAX_LAG_SECONDS + 2 * CHECK_SECONDS
        since = utc_now() - timedelta(seconds=seconds)
        rows = await fetch("principal", _active_user, {"id": id, "since": since})
        return Principal(*rows[0]) if rows else None

    async def check_rights(self, fetch: Fetch, viewer: Principal) -> None:
        """Raise unless `viewer` still has the rights with which something long was begun."""
        now = await self.get_principal(fetch, viewer.id)
        if now is None:
            raise InvalidToken
        if viewer.is_superuser and not now.is_superuser:
            raise NotPermitted

    async def note_write(self, db: Database, id: int) -> None:
        """That he wrote just now, so that he reads it, where there is a replica to read from.

        By itself, after the commit: in the same transaction, all that one user does at once would
        wait for the lock on his row. If it fails, what was done is done: he may read too early.
        """
        if not db.replica:
            return
        now = {"last_write_at": utc_now(), "updated_at": User.updated_at}
        try:
            async with db.reading() as session:
                await session.execute(update(User).where(User.id == id).values(now))
        except Exception as failed:
            log.warning("write_not_noted", error=type(failed).__name__)

    async def get_by_email(self, db: AsyncSession, *, email: str) -> User | None:
        """`email` in its canonical spelling."""
        return await db.scalar(select(User).where(User.email == email))

    async def get_by_username(self, db: AsyncSession, *, username: str) -> User | None:
        return await db.scalar(select(User).where(func.lower(User.username) == username.lower()))

    async def get_by_login(self, db: AsyncSession, *, login: str) -> User | None:
        """Whoever signs in as `login`, an e-mail address or a username; the two never overlap."""
        if re.fullmatch(USERNAME, login):
            return await self.get_by_username(db, username=login)
        try:
            return await self.get_by_email(db, email=canonical_email(login))
        except ValueError:
            return None

    async def create(
        self,
        write: Write,
        *,
        obj_in: UserCreate,
        viewer: Principal | None,
        **values: Any,
    ) -> Created[User]:
        # Hashed before the first statement: no connection or lock is held meanwhile.
        values["hashed_password"] = await get_password_hash(obj_in.password)
        return await self._insert(write, obj_in.model_dump(exclude={"password"}) | values, viewer)

    async def update(
        self,
        db: AsyncSession,
        *,
        db_obj: User,
        obj_in: UserUpdate | UserAdminUpdate,
        viewer: Principal | None = None,
    ) -> User:
        values = obj_in.model_dump(exclude={"current_password", "password"}, exclude_unset=True)
        if isinstance(obj_in, UserUpdate) and isinstance(obj_in.password, str):
            values["hashed_password"] = await get_password_hash(obj_in.password)
        if db_obj.deleting_since:
            raise Conflict("The user is being deleted")
        if not (values.get("is_active", True) and values.get("is_superuser", True)):
            await self._keep_a_superuser(db, without=db_obj)
        return await self._set(db, db_obj, values)

    async def begin_deletion(self, db: AsyncSession, *, db_obj: User) -> None:
        """Disable the account for good; what belongs to it is deleted by `finish_deletion`."""
        if db_obj.deleting_since:
            return
        await self._keep_a_superuser(db, without=db_obj)
        await check_nothing_forbids(db, _USERS, _USERS.c.id == db_obj.id)
        await self._set(db, db_obj, {"is_active": False, "deleting_since": utc_now()})

    async def finish_deletion(self, database: Database, id: int) -> None:
        """Delete the account and its rows in short transactions, for some seconds.

        Raise `DeletionUnfinished` if rows are left: called again, it goes on.
        """
        if not await Deletion(database, seconds=deletion.SECONDS).run(_USERS, [id]):
            raise NotFound("User")

    async def delete(self, db: AsyncSession, *, db_obj: User) -> None:
        raise NotImplementedError("by begin_deletion and finish_deletion")

    async def replace_hash(self, db: AsyncSession, *, user: User, new_hash: str) -> None:
        """Store a stronger hash of the same password, unless the password was changed meanwhile."""
        await db.execute(
            update(User)
            .where(User.id == user.id, User.hashed_password == user.hashed_password)
            .values(hashed_password=new_hash, updated_at=User.updated_at)
        )

    async def _keep_a_superuser(self, db: AsyncSession, *, without: User) -> None:
        # Locked in one order: of two superusers who remove each other, the second finds himself
        # the last. Not their keys: a long import locks that of its owner, and an administrator
        # must not wait for it. SQLite has one writer at a time anyway.
        remaining = await db.scalars(
            select(User.id)
            .where(User.is_superuser, User.is_active)
            .order_by(User.id)
            .with_for_update(key_share=True)
        )
        if set(remaining) == {without.id}:
            raise Conflict("The last active superuser cannot be disabled, demoted or deleted")


def _active_user() -> AnySelect:
    is_it = User.id == bindparam("id")
    wrote_lately = User.last_write_at > bindparam("since", type_=UTCDateTime)
    lately = func.coalesce(wrote_lately, false())
    return select(User.id, User.is_superuser, lately).where(is_it, User.is_active)


user_crud = CRUDUser(User)
