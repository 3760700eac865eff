"""Create, read, update and delete for any model; a resource adds only what is its own."""

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel
from sqlalchemy import Column, ColumnElement, and_, inspect, literal, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.orm.exc import StaleDataError

from app.core.errors import AlreadyExists, Conflict, UnknownReference
from app.crud.policy import Principal
from app.crud.reading import ModelT, ReadBase
from app.db.base import MAX_ID, SoftDeletable, utc_now
from app.db.retries import TransactionConflict

CreateSchemaT = TypeVar("CreateSchemaT", bound=BaseModel)
UpdateSchemaT = TypeVar("UpdateSchemaT", bound=BaseModel)


def referred(column: InstrumentedAttribute[Any]) -> Column[Any]:
    """What a column with a foreign key refers to: an id, or a natural key."""
    (key,) = column.property.columns[0].foreign_keys
    target: Column[Any] = key.column
    return target


class CRUDBase(ReadBase[ModelT], Generic[ModelT, CreateSchemaT, UpdateSchemaT]):
    """Everything here flushes and nothing commits: the caller's unit of work does."""

    # Columns that name rows of others, each with whose: one may name what one may read.
    references: ClassVar[Mapping[InstrumentedAttribute[Any], "CRUDBase[Any, Any, Any]"]] = {}

    async def get(self, db: AsyncSession, id: int, *, viewer: Principal | None) -> ModelT | None:
        """The row, if `viewer` may read it."""
        return await self._get(db, id, self.readable(viewer))

    async def get_writable(
        self,
        db: AsyncSession,
        id: int,
        *,
        viewer: Principal,
        with_deleted: bool = False,
        is_locked: bool = True,
    ) -> ModelT | None:
        """The row, if `viewer` may write it, and nobody else until the transaction ends."""
        rows = self.policy.write(viewer)
        if not with_deleted:
            rows = and_(rows, self._is_deleted(False))
        return await self._get(db, id, rows, is_locked=is_locked)

    async def create(
        self,
        db: AsyncSession,
        *,
        obj_in: CreateSchemaT,
        viewer: Principal | None = None,
        **values: Any,
    ) -> ModelT:
        """`values` are the columns that the client has no say in, such as the owner."""
        sent = obj_in.model_dump()
        await self._check_references(db, sent, viewer)
        return await self._insert(db, sent | values)

    async def update(
        self,
        db: AsyncSession,
        *,
        db_obj: ModelT,
        obj_in: UpdateSchemaT,
        viewer: Principal | None = None,
    ) -> ModelT:
        """Set what was sent: an absent field stays as it is, a null is stored."""
        sent = obj_in.model_dump()
        changed = {name: v for name, v in sent.items() if v != getattr(db_obj, name)}
        await self._check_references(db, changed, viewer)
        return await self._set(db, db_obj, sent)

    async def delete(self, db: AsyncSession, *, db_obj: ModelT) -> None:
        """For good, or until it is restored if the model is `SoftDeletable`."""
        if isinstance(db_obj, SoftDeletable):
            await self._set(db, db_obj, {"deleted_at": utc_now()})
            return
        await db.delete(db_obj)
        await self._flush(db, conflict="is referred to by others")

    async def restore(self, db: AsyncSession, *, db_obj: ModelT) -> ModelT:
        return await self._set(db, db_obj, {"deleted_at": None})

    async def _get(
        self, db: AsyncSession, id: int, rows: ColumnElement[bool], *, is_locked: bool = False
    ) -> ModelT | None:
        if not 0 < id <= MAX_ID:
            return None
        row = select(self.model).where(self.model.id == id, rows)
        if is_locked:
            # Not its key: rows that refer to it may come and go. SQLite has one writer anyway.
            row = row.with_for_update(key_share=True)
        return await db.scalar(row)

    async def _check_references(
        self, db: AsyncSession, sent: Mapping[str, Any], viewer: Principal | None
    ) -> None:
        for column, crud in self.references.items():
            key = sent.get(column.key)
            if key is not None:
                row = select(literal(1)).where(referred(column) == key, crud.readable(viewer))
                if not await db.scalar(row):
                    raise UnknownReference(column.key, crud.model.__name__)

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

    async def _flush(
        self, db: AsyncSession, *, conflict: str = "refers to something that has changed"
    ) -> None:
        """The database's constraints decide, so that no race can slip between check and insert."""
        resource = self.model.__name__
        try:
            await db.flush()
        except IntegrityError as error:
            if field := self._violated_unique_field(error):
                raise AlreadyExists(resource, field) from None
            raise Conflict(f"{resource} {conflict}") from error
        except StaleDataError:
            # Changed or deleted since it was read: the next attempt reads it anew.
            raise TransactionConflict(f"{resource} has changed") from None

    def _violated_unique_field(self, error: IntegrityError) -> str | None:
        """`email`, from PostgreSQL's constraint `uq_users_email` or SQLite's `users.email`.

        The field that the client knows: its column may have another name, as `price_cents` has.
        """
        constraint = getattr(getattr(error.orig, "__cause__", None), "constraint_name", None)
        table = self.model.__tablename__
        found = re.search(
            rf"(?:uq_{table}_|UNIQUE constraint failed: {table}\.)(\w+)",
            constraint or str(error.orig),
        )
        if not found:
            return None
        column = self.model.__table__.columns.get(found.group(1))
        return found.group(1) if column is None else self._field_of(column)

    def _field_of(self, column: ColumnElement[Any]) -> str:
        return inspect(self.model).get_property_by_column(column).key
