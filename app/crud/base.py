"""Create, read, update and delete for any model; a resource adds only what is its own."""

import json
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, TypeVar

from pydantic import BaseModel
from sqlalchemy import ColumnElement, Row, Select, and_, func, literal, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.orm.exc import StaleDataError

from app.core.errors import AlreadyExists, Conflict
from app.crud.filters import FieldOperators, filter_conditions
from app.crud.keyset import SortKey, Window
from app.crud.policy import Policy
from app.db.base import MAX_ID, Base, SoftDeletable, utc_now
from app.db.retries import TransactionConflict
from app.models import User
from app.schemas.page import Pagination, Sortable

MAX_COUNT = 10_000
STREAMED_ROWS = 500

ModelT = TypeVar("ModelT", bound=Base)
CreateSchemaT = TypeVar("CreateSchemaT", bound=BaseModel)
UpdateSchemaT = TypeVar("UpdateSchemaT", bound=BaseModel)


@dataclass
class Slice(Generic[ModelT]):
    """What `schemas.Page` shows, and the cursor of the page before."""

    items: Sequence[ModelT]
    total: int
    total_is: Literal["exact", "at_least"]
    page: int
    size: int
    next_cursor: str | None
    previous_cursor: str | None


class CRUDBase(Generic[ModelT, CreateSchemaT, UpdateSchemaT]):
    """Everything here flushes and nothing commits: the caller's unit of work does.

    `viewer` is who asks, None for somebody who has not signed in: the policy says what he gets.
    """

    policy: ClassVar[Policy]
    filters: ClassVar[FieldOperators] = {}
    sorted_by: ClassVar[Sequence[InstrumentedAttribute[Any]]] = ()
    searched: ClassVar[Sequence[InstrumentedAttribute[Any]]] = ()
    natural_key: ClassVar[str]  # the unique field that its owner knows a row by

    def __init__(self, model: type[ModelT]) -> None:
        if not hasattr(self, "policy"):
            raise TypeError(f"{type(self).__name__} must state its policy")
        self.model = model
        self.sort_keys = {
            f"{sign}{column.key}": SortKey(column, sign == "-")
            for column in (model.id, *self.sorted_by)
            for sign in ("", "-")
        }

    async def get(self, db: AsyncSession, id: int, *, viewer: User | None) -> ModelT | None:
        """The row, if `viewer` may read it."""
        return await self._get(db, id, self._readable(viewer))

    async def get_writable(
        self,
        db: AsyncSession,
        id: int,
        *,
        viewer: User | None,
        with_deleted: bool = False,
        is_locked: bool = True,
    ) -> ModelT | None:
        """The row, if `viewer` may write it, and nobody else until the transaction ends."""
        rows = self.policy.write(viewer)
        if not with_deleted:
            rows = and_(rows, self._is_deleted(False))
        return await self._get(db, id, rows, is_locked=is_locked)

    async def get_multi(
        self,
        db: AsyncSession,
        *,
        params: Pagination,
        viewer: User | None,
        within: ColumnElement[bool] | None = None,
    ) -> Slice[ModelT]:
        """A page of the rows that `viewer` may read; `within` narrows them, as to one parent."""
        window = self._window(params)
        rows = select(self.model).where(*self._conditions(params, viewer))
        if within is not None:
            rows = rows.where(within)
        found = (await db.execute(window.cut(rows))).all()
        page, next_cursor, previous_cursor = window.page_of(found)
        total = await self._count(db, rows)
        return Slice(
            items=[row[0] for row in page],
            total=min(total, MAX_COUNT),
            total_is="at_least" if total > MAX_COUNT else "exact",
            page=window.page,
            size=window.limit,
            next_cursor=next_cursor,
            previous_cursor=previous_cursor,
        )

    async def count(self, db: AsyncSession, *, params: Sortable, viewer: User | None) -> int:
        """All rows of a list, which takes a while if there are many."""
        rows = select(func.count()).select_from(self.model)
        return await db.scalar(rows.where(*self._conditions(params, viewer))) or 0

    async def stream(
        self,
        db: AsyncSession,
        *,
        columns: Sequence[InstrumentedAttribute[Any]],
        params: Sortable,
        viewer: User | None,
    ) -> AsyncIterator[Sequence[Row[Any]]]:
        """All rows of a list, some at a time; the database holds the rest back until asked."""
        order = (key.order(is_reversed=False) for key in self._order(params)[1])
        rows = select(*columns).where(*self._conditions(params, viewer)).order_by(*order)
        found = await db.stream(rows.execution_options(yield_per=STREAMED_ROWS))
        async for some in found.partitions():
            yield some

    async def create(self, db: AsyncSession, *, obj_in: CreateSchemaT, **values: Any) -> ModelT:
        """`values` are the columns that the client has no say in, such as the owner."""
        return await self._insert(db, obj_in.model_dump() | values)

    async def update(self, db: AsyncSession, *, db_obj: ModelT, obj_in: UpdateSchemaT) -> ModelT:
        """Set what was sent: an absent field stays as it is, a null is stored."""
        return await self._set(db, db_obj, obj_in.model_dump())

    async def delete(self, db: AsyncSession, *, db_obj: ModelT) -> None:
        """For good, or until it is restored if the model is `SoftDeletable`."""
        if isinstance(db_obj, SoftDeletable):
            await self._set(db, db_obj, {"deleted_at": utc_now()})
            return
        await db.delete(db_obj)
        await self._flush(db)

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

    def _readable(self, viewer: User | None) -> ColumnElement[bool]:
        return and_(self.policy.read(viewer), self._is_deleted(False))

    def _is_deleted(self, yes: bool) -> ColumnElement[bool]:
        if not issubclass(self.model, SoftDeletable):
            return literal(not yes)
        deleted_at: InstrumentedAttribute[Any] = self.model.deleted_at
        return deleted_at.is_not(None) if yes else deleted_at.is_(None)

    def _conditions(self, params: Sortable, viewer: User | None) -> list[ColumnElement[bool]]:
        sent = vars(params)
        if sent.get("is_deleted"):
            seen = and_(self.policy.write(viewer), self._is_deleted(True))
        else:
            seen = self._readable(viewer)
        conditions = [seen, *filter_conditions(self.filters, sent)]
        if q := sent.get("q"):
            contains = (field.icontains(q, autoescape=True) for field in self.searched)
            conditions.append(or_(*contains))
        return conditions

    def _window(self, params: Pagination) -> Window:
        names, keys = self._order(params)
        context = json.dumps([self.model.__tablename__, names, vars(params).get("q")])
        return Window.of(params, keys, context)

    def _order(self, params: Sortable) -> tuple[list[str], tuple[SortKey, ...]]:
        names = params.sort.split(",") if params.sort else []
        # A total order, or pages would skip rows and repeat them.
        names.append("-id" if names and names[-1].startswith("-") else "id")
        keys: dict[str, SortKey] = {}
        for name in names:
            keys.setdefault(name.removeprefix("-"), self.sort_keys[name])
        return names, tuple(keys.values())

    async def _count(self, db: AsyncSession, rows: Select[Any]) -> int:
        """How many there are, counted no further than is cheap."""
        some = rows.with_only_columns(self.model.id).limit(MAX_COUNT + 1).subquery()
        return await db.scalar(select(func.count()).select_from(some)) or 0

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
