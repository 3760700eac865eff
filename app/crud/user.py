"""Users: hashed passwords, sign-in names, and the rule that an active superuser always remains."""

import re
from typing import Any

from sqlalchemy import bindparam, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app import schemas
from app.core.errors import Conflict
from app.core.security import get_password_hash
from app.crud.base import CRUDBase
from app.crud.filters import EQUALITY, RANGE
from app.crud.policy import Policy, Principal, owner, superusers
from app.crud.search import Search
from app.db.base import MAX_ID
from app.db.query import AnySelect
from app.db.session import Database
from app.models import User
from app.schemas import UserAdminUpdate, UserCreate, UserUpdate
from app.schemas.base import USERNAME, canonical_email


class CRUDUser(CRUDBase[User, UserCreate, UserUpdate | UserAdminUpdate]):
    policy = Policy(read=owner(User.id), write=superusers)
    schema = schemas.User
    filters = {
        User.email: (*EQUALITY, "prefix"),
        User.username: (*EQUALITY, "prefix"),
        User.full_name: ("isnull",),
        User.is_active: ("eq",),
        User.is_superuser: ("eq",),
        User.created_at: RANGE,
    }
    search = Search(User, User.email, User.username, User.full_name)
    sorted_by = (User.email, User.username, User.created_at)

    async def get_principal(self, db: Database, id: int) -> Principal | None:
        """Whoever is signed in with this id, if his account is active."""
        if not 0 < id <= MAX_ID:
            return None
        rows = await db.fetch("principal", _active_user, {"id": id})
        return Principal(*rows[0]) if rows else None

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

    async def create(self, db: AsyncSession, *, obj_in: UserCreate, **values: Any) -> User:
        # Hashed before the first statement: no connection or lock is held meanwhile.
        values["hashed_password"] = await get_password_hash(obj_in.password)
        return await self._insert(db, obj_in.model_dump(exclude={"password"}) | values)

    async def update(
        self,
        db: AsyncSession,
        *,
        db_obj: User,
        obj_in: UserUpdate | UserAdminUpdate,
        viewer: Principal | None = None,
    ) -> User:
        values = obj_in.model_dump(exclude={"current_password", "password"})
        if isinstance(obj_in, UserUpdate) and isinstance(obj_in.password, str):
            values["hashed_password"] = await get_password_hash(obj_in.password)
        if not (values.get("is_active", True) and values.get("is_superuser", True)):
            await self._keep_a_superuser(db, without=db_obj)
        return await self._set(db, db_obj, values)

    async def delete(self, db: AsyncSession, *, db_obj: User) -> None:
        await self._keep_a_superuser(db, without=db_obj)
        await super().delete(db, db_obj=db_obj)

    async def replace_hash(self, db: AsyncSession, *, user: User, new_hash: str) -> None:
        """Store a stronger hash of the same password, unless the password was changed meanwhile."""
        await db.execute(
            update(User)
            .where(User.id == user.id, User.hashed_password == user.hashed_password)
            .values(hashed_password=new_hash, updated_at=User.updated_at)
        )

    async def _keep_a_superuser(self, db: AsyncSession, *, without: User) -> None:
        # Locked in one order: of two superusers who remove each other, the second finds himself
        # the last. SQLite has one writer at a time anyway.
        remaining = await db.scalars(
            select(User.id)
            .where(User.is_superuser, User.is_active)
            .order_by(User.id)
            .with_for_update()
        )
        if set(remaining) == {without.id}:
            raise Conflict("The last active superuser cannot be disabled, demoted or deleted")


def _active_user() -> AnySelect:
    is_it = User.id == bindparam("id")
    return select(User.id, User.is_superuser).where(is_it, User.is_active)


user_crud = CRUDUser(User)
