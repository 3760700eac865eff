"""Create, read, update and delete for any model; a resource adds only what is its own."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Generic, Self, TypeVar, cast

from pydantic import BaseModel
from sqlalchemy import (
    BigInteger,
    BindParameter,
    Column,
    ColumnElement,
    False_,
    Index,
    Table,
    UniqueConstraint,
    and_,
    bindparam,
    exists,
    insert,
    inspect,
    literal,
    not_,
    null,
    or_,
    select,
    true,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.orm.exc import StaleDataError
from sqlalchemy.sql import visitors
from sqlalchemy.sql.visitors import replacement_traverse

from timberframe.crud.policy import Principal, viewer_values, with_rights_of
from timberframe.crud.reading import ReadBase, rights_of
from timberframe.crud.results import Created, ModelT
from timberframe.crud.row_limit import RowLimit
from timberframe.data.base import MAX_ID, SoftDeletable, utc_now
from timberframe.data.column_types import IdList
from timberframe.data.events import need_events
from timberframe.data.failures import ConstraintViolated
from timberframe.data.links import ListedIds, referred
from timberframe.data.query import AnySelect, AnyStatement, Fetch, Rows
from timberframe.data.retries import TransactionConflict
from timberframe.data.rows_as_json import RowJSON
from timberframe.data.unit_of_work import UnitOfWork
from timberframe.errors import (
    AlreadyExists,
    Conflict,
    InvalidInput,
    NotAuthenticated,
    NotPermitted,
    RowLimitReached,
    UnknownReference,
    WrongDeclaration,
)

CreateSchemaT = TypeVar("CreateSchemaT", bound=BaseModel)
UpdateSchemaT = TypeVar("UpdateSchemaT", bound=BaseModel)


class NewRow(dict[str, Any]):
    """A new row's values by field; stands in for the context that SQLAlchemy passes to defaults."""

    def get_current_parameters(self) -> Self:
        return self


class CRUDBase(ReadBase[ModelT], Generic[ModelT, CreateSchemaT, UpdateSchemaT]):
    """Nothing here commits: the caller's unit of work does, which may be a single statement."""

    # Foreign keys and lists of ids with the crud they refer to: a viewer may refer only to rows
    # that they may read.
    references: ClassVar[Mapping[InstrumentedAttribute[Any], "CRUDBase[Any, Any, Any]"]] = {}
    row_limit: ClassVar[RowLimit | None] = None
    # Whether changes are kept as events, for webhooks and live streams.
    events: ClassVar[bool] = False

    def __init__(self, model: type[ModelT]) -> None:
        super().__init__(model)
        columns: Any = inspect(model).columns.items()
        self._defaults = {field: c.default for field, c in columns if c.default is not None}
        for field, default in self._defaults.items():
            if not (default.is_scalar or default.is_callable):
                why = f"the default of {model.__name__}.{field} must be Python's"
                raise WrongDeclaration(f"{type(self).__name__}: {why}")
        callers = (None, Principal(0, is_superuser=False), Principal(0, is_superuser=True))
        self._creators = {
            rights_of(caller)
            for caller in callers
            if not isinstance(self.policy.creatable(caller), False_)
        }
        if self.events:
            need_events(model, self._columns_of_events(callers))

    def _columns_of_events(self, callers: Iterable[Principal | None]) -> set[str]:
        """The id, what the schema shows, and what decides who may read it."""
        columns = inspect(self.model).columns
        shown = {columns[name].name for name in self.schema.model_fields}
        rules: Iterable[Any] = (
            each for caller in callers for each in visitors.iterate(self.policy.read(caller))
        )
        read = {each.name for each in rules if self._is_own_column(each)}
        return {columns.id.name} | shown | read

    def check_creator(self, viewer: Principal | None) -> None:
        """Raise `NotPermitted`, or `NotAuthenticated`, if `viewer` may create no row at all.

        `create` checks the individual row too.
        """
        if rights_of(viewer) not in self._creators:
            raise NotPermitted if viewer else NotAuthenticated

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
        """The row, if `viewer` may write it; locked until the transaction ends if `is_locked`."""
        rows = self.policy.write(viewer)
        if not with_deleted:
            rows = and_(rows, self._is_deleted(False))
        return await self._get(db, id, rows, is_locked=is_locked)

    async def create(
        self,
        db: Rows,
        *,
        obj_in: CreateSchemaT,
        viewer: Principal | None,
        **values: Any,
    ) -> Created[ModelT]:
        """`values` are columns that the client does not choose, such as the owner.

        Raise `NotPermitted`, or `NotAuthenticated`, if `viewer` may not create such a row.
        """
        return await self._insert(db, obj_in.model_dump() | values, viewer)

    async def update(
        self,
        db: UnitOfWork,
        *,
        db_obj: ModelT,
        obj_in: UpdateSchemaT,
        viewer: Principal | None = None,
    ) -> ModelT:
        """Set the fields that were sent: an absent field stays as it is, a null is stored."""
        sent = obj_in.model_dump(exclude_unset=True)
        changed = {name: v for name, v in sent.items() if v != getattr(db_obj, name)}
        for column in self.references:
            if isinstance(column.type, IdList) and (ids := changed.get(column.key)):
                # As with a reference that stays: they may not be able to read it any more.
                changed[column.key] = sorted(set(ids) - set(getattr(db_obj, column.key)))
        await self._check_references(db.fetch, changed, viewer)
        return await self._set(db, db_obj, sent)

    async def delete(self, db: AsyncSession, *, db_obj: ModelT) -> None:
        """Delete the row, or only mark it as deleted if the model is `SoftDeletable`."""
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
            # FOR NO KEY UPDATE: rows that refer to it may come and go. SQLite has one writer.
            row = row.with_for_update(key_share=True)
        return await db.scalar(row)

    async def _check_references(
        self, fetch: Fetch, sent: Mapping[str, Any], viewer: Principal | None
    ) -> None:
        for column, crud in self.references.items():
            if sent.get(column.key) is None:
                continue

            def build(column: InstrumentedAttribute[Any] = column) -> AnySelect:
                return select(self._is_new_known(column, viewer))

            shape = (self, "reference", column.key, rights_of(viewer))
            values = {f"new_{column.key}": sent[column.key]} | viewer_values(viewer)
            ((is_known,),) = await fetch(shape, build, values)
            if not is_known:
                raise UnknownReference(column.key, crud.model.__name__)

    def is_known(
        self,
        column: InstrumentedAttribute[Any],
        value: ColumnElement[Any],
        viewer: Principal | None,
    ) -> ColumnElement[bool]:
        """Whether `value` is null, or names in `column` rows that `viewer` may read."""
        (target,) = referred(column.property.columns[0])
        readable = self.references[column].readable(viewer)
        if isinstance(column.type, IdList):
            ids = ListedIds(value).rows()
            row = exists().where(target == ids.c.value.cast(BigInteger), readable)
            return not_(exists().select_from(ids).where(not_(row)))
        return or_(value.is_(None), exists().where(target == value, readable))

    def _is_new_known(
        self, column: InstrumentedAttribute[Any], viewer: Principal | None
    ) -> ColumnElement[bool]:
        (target,) = referred(column.property.columns[0])
        type_ = column.type if isinstance(column.type, IdList) else target.type
        value = bindparam(f"new_{column.key}", type_=type_)
        return self.is_known(column, value, with_rights_of(viewer))

    async def _insert(
        self, db: Rows, values: dict[str, Any], viewer: Principal | None
    ) -> Created[ModelT]:
        self.check_creator(viewer)
        row = NewRow(values)
        for field, default in self._defaults.items():
            if field not in row:
                row[field] = default.arg(row) if default.is_callable else default.arg
        fields = tuple(row)
        limit = self.row_limit
        lock = limit.lock(row[limit.owner.key]) if limit else None
        new = {f"new_{field}": value for field, value in row.items()} | viewer_values(viewer)
        rights = rights_of(viewer)
        conflict = "refers to something that has changed"
        try:
            created = await db.write(
                (self, "insert", fields, rights),
                lambda: self._insertion(fields, viewer),
                new,
                lock=lock,
            )
        except ConstraintViolated as violation:
            # Raised from the original cause: an exception must not be its own cause.
            raise self._refusal(violation, conflict) from violation.__cause__
        if not created:
            await self._check_references(db.fetch, row, viewer)
            shape = (self, "creatable", fields, rights)
            ((is_creatable,),) = await db.fetch(
                shape, lambda: select(self._is_creatable(fields, viewer)), new
            )
            if not is_creatable:
                raise NotPermitted if viewer else NotAuthenticated
            if limit:
                shape = (self, "room", fields, rights)
                ((has_room,),) = await db.fetch(shape, lambda: select(self._has_room()), new)
                if not has_room:
                    raise RowLimitReached(self.model.__name__, limit.rows)
            raise Conflict(f"{self.model.__name__} {conflict}")
        return Created(*created[0])

    def _insertion(self, fields: Sequence[str], viewer: Principal | None) -> AnyStatement:
        """A statement that inserts one row and returns its JSON.

        It inserts nothing if a reference is unknown, if the policy does not let `viewer` create the
        row, or if its owner has reached the row limit.
        """
        columns = inspect(self.model).columns
        row = select(*(self._new(field) for field in fields))
        referring = (column for column in self.references if column.key in fields)
        row = row.where(*(self._is_new_known(column, viewer) for column in referring))
        row = row.where(self._is_creatable(fields, viewer), self._has_room())
        names = [columns[field].name for field in fields]
        table = cast(Table, self.model.__table__)
        statement = insert(table).from_select(names, row, include_defaults=False)
        shown = RowJSON({name: columns[name] for name in self.schema.model_fields})
        version = columns.get("version", literal(None))
        return statement.returning(shown, version, columns.id)

    def _has_room(self) -> ColumnElement[bool]:
        if self.row_limit is None:
            return true()
        return self.row_limit.used(self._new(self.row_limit.owner.key)) < self.row_limit.rows

    def _is_creatable(self, fields: Sequence[str], viewer: Principal | None) -> ColumnElement[bool]:
        new = {field: self._new(field) for field in fields}
        # Columns that the database fills are not known yet: as nulls they meet no condition.
        return self.with_values(
            self.policy.creatable(with_rights_of(viewer)), lambda field: new.get(field, null())
        )

    def with_values(
        self, rule: ColumnElement[bool], value_of: Callable[[str], ColumnElement[Any]]
    ) -> ColumnElement[bool]:
        """A rule of the policy with values for its columns, about a row that no query reads."""
        mapper = inspect(self.model)
        table = cast(Table, self.model.__table__)

        def replace(element: Any, **options: Any) -> ColumnElement[Any] | None:
            if not self._is_own_column(element):
                return None
            return value_of(mapper.get_property_by_column(table.c[element.name]).key)

        return replacement_traverse(rule, {}, replace)

    def _is_own_column(self, element: Any) -> bool:
        return isinstance(element, Column) and str(element.table) == self.model.__tablename__

    def _new(self, field: str) -> BindParameter[Any]:
        return bindparam(f"new_{field}", type_=inspect(self.model).columns[field].type)

    async def _set(self, db: AsyncSession, db_obj: ModelT, values: dict[str, Any]) -> ModelT:
        db.add(db_obj)
        for field, value in values.items():
            setattr(db_obj, field, value)
        await self._flush(db)
        return db_obj

    async def _flush(
        self, db: AsyncSession, *, conflict: str = "refers to something that has changed"
    ) -> None:
        """Flush; the constraints decide, so that no race can slip between check and insert."""
        try:
            await db.flush()
        except IntegrityError as error:
            raise self._refusal(ConstraintViolated.of(error), conflict) from error
        except StaleDataError:
            # Changed or deleted since it was read: the retry reads it again.
            raise TransactionConflict(f"{self.model.__name__} has changed") from None

    def _refusal(self, violation: ConstraintViolated, conflict: str) -> Exception:
        """The error for the client, or the violation itself if it is a bug of ours."""
        resource, rule = self.model.__name__, violation.rule
        match violation.kind:
            case "unique":
                return AlreadyExists(resource, " and ".join(self._unique_fields(rule)))
            case "reference":
                return Conflict(f"{resource} {conflict}")
            case "check":
                name = re.sub(rf".*\bck_{self.model.__tablename__}_", "", rule)
                return InvalidInput.at("body", msg=f"breaks the rule {name}")
        return violation

    def _unique_fields(self, rule: str) -> Sequence[str]:
        """The fields of a unique rule, given by name or as SQLite's `users.email, users.name`.

        They are the names that clients know: a column may have another, as `price_cents` has.
        """
        table = cast(Table, self.model.__table__)
        columns = [table.c[name] for name in re.findall(rf"\b{table.name}\.(\w+)", rule)]
        rules: list[UniqueConstraint | Index] = list(table.indexes)
        rules += (each for each in table.constraints if isinstance(each, UniqueConstraint))
        for each in rules:
            if re.search(rf"\b{each.name}\b", rule):
                columns = list(each.columns)
        return [inspect(self.model).get_property_by_column(column).key for column in columns]
