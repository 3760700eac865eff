"""Accounts: the user of a token, hashed passwords, and at least one superuser at all times."""

import re
from datetime import timedelta
from typing import Any, ClassVar, TypeVar, cast

import structlog
from pydantic import BaseModel
from sqlalchemy import Table, bindparam, false, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from timberframe.accounts.model import Account
from timberframe.crud import deletion
from timberframe.crud.base import CRUDBase
from timberframe.crud.deletion import Deletion, check_nothing_forbids
from timberframe.crud.policy import Principal
from timberframe.crud.results import Created
from timberframe.data.base import MAX_ID, utc_now
from timberframe.data.column_types import UTCDateTime
from timberframe.data.events import forget_row
from timberframe.data.query import AnySelect, Fetch, Rows
from timberframe.data.replica import CHECK_SECONDS
from timberframe.data.session import Database
from timberframe.data.unit_of_work import UnitOfWork
from timberframe.errors import Conflict, InvalidToken, NotFound, NotPermitted
from timberframe.schemas.fields import USERNAME, canonical_email
from timberframe.security.passwords import Passwords

log = structlog.get_logger()


AccountT = TypeVar("AccountT", bound=Account)
SignUpT = TypeVar("SignUpT", bound=BaseModel)
ChangeT = TypeVar("ChangeT", bound=BaseModel)


class Accounts(CRUDBase[AccountT, SignUpT, ChangeT]):
    """The crud of the accounts table; pass the one instance of your subclass to `create_app`.

    `sign_up` is the schema of a new account, with `email`, `username` and `password`.
    """

    sign_up: ClassVar[type[BaseModel]]
    passwords: ClassVar[Passwords] = Passwords()

    def __init__(self, model: type[AccountT]) -> None:
        super().__init__(model)
        self.table = cast(Table, model.__table__)

    async def get_principal(self, db: Database, id: int) -> Principal | None:
        """The signed-in user with this id, if their account is active."""
        # The lag of a replica is checked once in CHECK_SECONDS, so it may have grown since.
        recent = db.options.replica_max_lag + 2 * CHECK_SECONDS
        return await self._find_principal(db.fetch, id, wrote_within_seconds=recent)

    async def check_rights(self, fetch: Fetch, viewer: Principal) -> None:
        """Raise if `viewer` has lost rights since a long operation began.

        That is `InvalidToken` without an active account, `NotPermitted` for a former superuser.
        """
        now = await self._find_principal(fetch, viewer.id, wrote_within_seconds=0)
        if now is None:
            raise InvalidToken
        if viewer.is_superuser and not now.is_superuser:
            raise NotPermitted

    async def note_write(self, db: Database, id: int) -> None:
        """Note that the user has just written, so that they read from the primary, not a replica.

        In a transaction of its own, after the commit: in the same one, concurrent requests of one
        user would wait for the lock on their row. If it fails, what was written stays, but they may
        read stale data.
        """
        if not db.replica:
            return
        now = {"last_write_at": utc_now(), "updated_at": self.model.updated_at}
        try:
            async with db.autocommit() as session:
                await session.execute(update(self.model).where(self.model.id == id).values(now))
        except Exception as failed:
            log.warning("write_not_noted", error=type(failed).__name__)

    async def get_by_email(self, db: AsyncSession, *, email: str) -> AccountT | None:
        """`email` is canonical."""
        return await db.scalar(select(self.model).where(self.model.email == email))

    async def get_by_username(self, db: AsyncSession, *, username: str) -> AccountT | None:
        is_it = func.lower(self.model.username) == username.lower()
        return await db.scalar(select(self.model).where(is_it))

    async def get_by_login(self, db: AsyncSession, *, login: str) -> AccountT | None:
        """The user who signs in as `login`: e-mail address or username; the two never overlap."""
        if re.fullmatch(USERNAME, login):
            return await self.get_by_username(db, username=login)
        try:
            return await self.get_by_email(db, email=canonical_email(login))
        except ValueError:
            return None

    async def create(
        self,
        db: Rows,
        *,
        obj_in: SignUpT,
        viewer: Principal | None,
        **values: Any,
    ) -> Created[AccountT]:
        # Hash before the first statement, so that no connection or lock is held meanwhile.
        password: str = vars(obj_in)["password"]
        values["hashed_password"] = await self.passwords.hash(password)
        return await self._insert(db, obj_in.model_dump(exclude={"password"}) | values, viewer)

    async def update(
        self,
        db: UnitOfWork,
        *,
        db_obj: AccountT,
        obj_in: ChangeT,
        viewer: Principal | None = None,
    ) -> AccountT:
        values = obj_in.model_dump(exclude={"current_password", "password"}, exclude_unset=True)
        if isinstance(password := vars(obj_in).get("password"), str):
            values["hashed_password"] = await self.passwords.hash(password)
        if db_obj.deleting_since:
            raise Conflict(f"The {self._name} is being deleted")
        if not (values.get("is_active", True) and values.get("is_superuser", True)):
            await self._keep_a_superuser(db, without=db_obj)
        return await self._set(db, db_obj, values)

    async def begin_deletion(self, db: AsyncSession, *, db_obj: AccountT) -> None:
        """Disable the account for good; what belongs to it is deleted by `finish_deletion`."""
        if db_obj.deleting_since:
            return
        await self._keep_a_superuser(db, without=db_obj)
        await check_nothing_forbids(db, self.table, self.table.c.id == db_obj.id)
        await self._set(db, db_obj, {"is_active": False, "deleting_since": utc_now()})

    async def finish_deletion(self, database: Database, id: int) -> None:
        """Delete the account and its rows in short transactions, for some seconds.

        Raise `DeletionUnfinished` if rows are left: the next call continues.
        """
        was_there = await Deletion(database, seconds=deletion.SECONDS).run(self.table, [id])
        if self.events:
            async with database.transaction() as db:
                await forget_row(db, self.table.name, id)
        if not was_there:
            raise NotFound(self.model.__name__)

    async def delete(self, db: AsyncSession, *, db_obj: AccountT) -> None:
        raise NotImplementedError("use begin_deletion and finish_deletion")

    async def replace_hash(self, db: AsyncSession, *, user: AccountT, new_hash: str) -> None:
        """Store a stronger hash of the same password, unless the password was changed meanwhile."""
        is_same = self.model.hashed_password == user.hashed_password
        await db.execute(
            update(self.model)
            .where(self.model.id == user.id, is_same)
            .values(hashed_password=new_hash, updated_at=self.model.updated_at)
        )

    async def _find_principal(
        self, fetch: Fetch, id: int, *, wrote_within_seconds: float
    ) -> Principal | None:
        if not 0 < id <= MAX_ID:
            return None
        since = utc_now() - timedelta(seconds=wrote_within_seconds)
        rows = await fetch((self, "principal"), self._active_account, {"id": id, "since": since})
        return Principal(*rows[0]) if rows else None

    def _active_account(self) -> AnySelect:
        model = self.model
        wrote_lately = model.last_write_at > bindparam("since", type_=UTCDateTime)
        lately = func.coalesce(wrote_lately, false())
        accounts = select(model.id, model.is_superuser, lately)
        return accounts.where(model.id == bindparam("id"), model.is_active)

    async def _keep_a_superuser(self, db: AsyncSession, *, without: AccountT) -> None:
        # Superusers are locked in one order: if two remove each other, the second to get the locks
        # finds that they are the last. FOR NO KEY UPDATE, because a long import holds a key lock on
        # its owner, and an administrator must not wait for it. SQLite has one writer at a time.
        remaining = await db.scalars(
            select(self.model.id)
            .where(self.model.is_superuser, self.model.is_active)
            .order_by(self.model.id)
            .with_for_update(key_share=True)
        )
        if set(remaining) == {without.id}:
            raise Conflict("The last active superuser cannot be disabled, demoted or deleted")

    @property
    def _name(self) -> str:
        return self.model.__name__.lower()
