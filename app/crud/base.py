"""Create, read, update and delete for any model; a resource adds only what is its own."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel
from sqlalchemy import ColumnExpressionArgument, delete, func, or_, select, true
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.orm.exc import StaleDataError

from app.core.errors import AlreadyExists, Conflict, NotFound
from app.db.base import MAX_ID, Base
from app.db.retries import TransactionConflict
from app.models import User

ModelT = TypeVar("ModelT", bound=Base)
CreateSchemaT = TypeVar("CreateSchemaT", bound=BaseModel)
UpdateSchemaT = TypeVar("UpdateSchemaT", bound=BaseModel)


@dataclass
class Slice(Generic[ModelT]):
    """What `schemas.Page` shows."""

    items: Sequence[ModelT]
    total: int
    page: int
    size: int


class CRUDBase(Generic[ModelT, CreateSchemaT, UpdateSchemaT]):
    """Everything here flushes and nothing commits: the caller's unit of work does."""

    searched: ClassVar[Sequence[InstrumentedAttribute[Any]]] = ()

    def __init__(self, model: type[ModelT]) -> None:
        self.model = model

    def readable(self, viewer: User | None) -> ColumnExpressionArgument[bool]:
        """Which rows `viewer` may see; None is somebody who has not signed in."""
        return true()

    async def get(self, db: AsyncSession, id: int, *, viewer: User | None = None) -> ModelT | None:
        if not 0 < id <= MAX_ID:
            return None
        return await db.scalar(select(self.model).where(self.model.id == id, self.readable(viewer)))

    async def get_multi(
        self,
        db: AsyncSession,
        *,
        skip: int = 0,
        limit: int = 100,
        q: str | None = None,
        viewer: User | None = None,
    ) -> Slice[ModelT]:
        """Some of the rows that `viewer` may see and that contain `q`, in the order of creation."""
        where = [self.readable(viewer)]
        if q:
            where.append(or_(*(field.icontains(q, autoescape=True) for field in self.searched)))
        rows = select(self.model).where(*where).order_by(self.model.id).offset(skip).limit(limit)
        total = select(func.count()).select_from(self.model).where(*where)
        return Slice(
            items=(await db.scalars(rows)).all(),
            total=await db.scalar(total) or 0,
            page=skip // limit + 1,
            size=limit,
        )

    async def create(self, db: AsyncSession, *, obj_in: CreateSchemaT, **values: Any) -> ModelT:
        """`values` are the columns that the client has no say in, such as the owner."""
        return await self._insert(db, obj_in.model_dump() | values)

    async def update(self, db: AsyncSession, *, db_obj: ModelT, obj_in: UpdateSchemaT) -> ModelT:
        """Set what was sent: an absent field stays as it is, a null is stored."""
        return await self._set(db, db_obj, obj_in.model_dump())

    async def delete(self, db: AsyncSession, *, db_obj: ModelT) -> None:
        gone = delete(self.model).where(self.model.id == db_obj.id).returning(self.model.id)
        if await db.scalar(gone) is None:
            raise NotFound(self.model.__name__)  # somebody else was faster

    async def _insert(self, db: AsyncSession, values: dict[str, Any]) -> ModelT:
        db_obj = self.model(**values)
        db.add(db_obj)
        await self._flush(db)
        return db_obj

    async def _set(self, db: AsyncSession, db_obj: ModelT, values: dict[str, Any]) -> ModelT:
        db.add(db_obj)
        for field, value in values.items():
            setattr(db_obj, field, value)
        await self._flush(db)
        return db_obj

    async def _flush(self, db: AsyncSession) -> None:
        """The database's constraints decide, so that no race can slip between check and insert."""
        resource = self.model.__name__
        try:
            await db.flush()
        except IntegrityError as error:
            if field := self._violated_unique_field(error):
                raise AlreadyExists(resource, field) from None
            raise Conflict(f"{resource} refers to something that has changed") from error
        except StaleDataError:
            # Changed or deleted since it was read: the next attempt reads it anew.
            raise TransactionConflict(f"{resource} has changed") from None

    def _violated_unique_field(self, error: IntegrityError) -> str | None:
        """`email`, from PostgreSQL's constraint `uq_users_email` or SQLite's `users.email`."""
        constraint = getattr(getattr(error.orig, "__cause__", None), "constraint_name", None)
        table = self.model.__tablename__
        found = re.search(
            rf"(?:uq_{table}_|UNIQUE constraint failed: {table}\.)(\w+)",
            constraint or str(error.orig),
        )
        return found.group(1) if found else None
