"""Reads of a resource: what it declares becomes rows and pages, as JSON made by the database.

A statement is built and compiled once for each shape of a request, and its values are parameters.
After that a read is one round trip, and no object is made for any row.
"""

from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel
from pydantic_core import to_json
from sqlalchemy import (
    ColumnElement,
    Integer,
    Row,
    and_,
    bindparam,
    exists,
    func,
    literal,
    literal_column,
    null,
    select,
)
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from app.crud.declarations import check_declarations
from app.crud.filters import FieldOperators, Filter, declared
from app.crud.keyset import RANK, SortKey, Window
from app.crud.policy import Policy, Principal, any_like, viewer_values
from app.crud.search import MAX_HITS, Found, Search
from app.db.base import MAX_ID, Base, SoftDeletable, Versioned
from app.db.json import SEPARATOR, JoinedJSON, RowJSON
from app.db.query import AnySelect, Execute
from app.db.session import Database, in_session
from app.schemas.page import Counting, Pagination, Sortable, TotalIs

MAX_COUNT = 1_000
STREAMED_ROWS = 500

ModelT = TypeVar("ModelT", bound=Base)


@dataclass
class Stored(Generic[ModelT]):
    """A row as JSON, with its version if the model counts them."""

    content: str
    version: int | None


@dataclass
class Created(Stored[ModelT]):
    """A row that is new."""

    id: int


@dataclass
class Slice(Generic[ModelT]):
    """What `schemas.Page` shows, and the cursor of the page before.

    Its items are texts of JSON, with the separator between them.
    """

    items: str
    total: int | None
    total_is: TotalIs
    page: int
    size: int
    next_cursor: str | None
    previous_cursor: str | None


@dataclass
class Asked:
    """A read, taken apart: its conditions depend on `shape` alone, all else is in `values`."""

    shape: Hashable
    conditions: Callable[[], Iterable[ColumnElement[bool]]]
    values: Mapping[str, Any]


class ReadBase(Generic[ModelT]):
    """`viewer` is who asks, None for somebody who has not signed in: the policy says his part."""

    policy: ClassVar[Policy]
    schema: ClassVar[type[BaseModel]]
    filters: ClassVar[FieldOperators] = {}
    further_filters: ClassVar[Sequence[Filter]] = ()
    sorted_by: ClassVar[Sequence[InstrumentedAttribute[Any]]] = ()
    search: ClassVar[Search | None] = None
    natural_key: ClassVar[str]  # the unique field that its owner knows a row by

    def __init__(self, model: type[ModelT]) -> None:
        self.model = model
        check_declarations(self)
        own_id: FieldOperators = {model.id: ("in",)}
        self.declared_filters = (*declared(own_id), *declared(self.filters), *self.further_filters)
        self.sort_keys = {
            f"{sign}{column.key}": SortKey(column.key, column, is_descending=sign == "-")
            for column in (model.id, *self.sorted_by)
            for sign in ("", "-")
        }

    async def read(
        self, db: Database, id: int, *, viewer: Principal | None
    ) -> Stored[ModelT] | None:
        """The row as the schema shows it, if `viewer` may read it."""
        if not 0 < id <= MAX_ID:
            return None
        shape = (self, "row", rights_of(viewer))
        values = {"id": id} | viewer_values(viewer)
        rows = await db.fetch(shape, lambda: self._row(viewer), values, may_lag=_may_lag(viewer))
        return Stored(*rows[0]) if rows else None

    async def get_multi(
        self,
        db: Database,
        *,
        params: Pagination,
        viewer: Principal | None,
        within: Mapping[InstrumentedAttribute[Any], Any] | None = None,
    ) -> Slice[ModelT]:
        """A page of the rows that `viewer` may read; `within` narrows them, as to one parent."""
        fetch = partial(db.fetch, may_lag=_may_lag(viewer))
        asked = await self._ask(fetch, params, viewer, within or {})
        q = vars(params).get("q")
        counting = params.counting
        if q and self.search:
            async with db.searching(may_lag=_may_lag(viewer)) as session:
                found = await self._search(session, self.search, q, params, asked, viewer)
            if counting == "none":
                return replace(found, total=None, total_is="not_counted")
            return found
        window = self._window(params, self._sort_keys(params))
        ((items, total),) = await fetch(
            (asked.shape, window.shape(), counting),
            lambda: self._page(asked, window, counting),
            {**asked.values, **window.values()},
        )
        bound = None if counting == "exact" else MAX_COUNT
        return _slice(window, items or "", total, bound=bound)

    async def count(self, db: AsyncSession, *, params: Sortable, viewer: Principal | None) -> int:
        """All rows of a list, which takes a while if there are many."""
        asked = await self._ask(in_session(db), params, viewer, {})
        rows = select(func.count()).select_from(self.model)
        rows = await self._all(db, rows, params, asked, viewer)
        return await db.scalar(rows, asked.values) or 0

    async def stream(
        self,
        db: AsyncSession,
        *,
        columns: Sequence[ColumnElement[Any] | InstrumentedAttribute[Any]],
        params: Sortable,
        viewer: Principal | None,
    ) -> AsyncIterator[Sequence[Row[Any]]]:
        """All rows of a list, some at a time; the database holds the rest back until asked."""
        asked = await self._ask(in_session(db), params, viewer, {})
        order = (key.order(is_reversed=False) for key in self._sort_keys(params))
        rows = await self._all(db, select(*columns), params, asked, viewer)
        rows = rows.order_by(*order)
        found = await db.stream(rows.execution_options(yield_per=STREAMED_ROWS), asked.values)
        async for some in found.partitions():
            yield some

    async def _all(
        self,
        db: AsyncSession,
        rows: AnySelect,
        params: Sortable,
        asked: Asked,
        viewer: Principal | None,
    ) -> AnySelect:
        q = vars(params).get("q")
        if not (q and self.search):
            return rows.where(*asked.conditions())
        found = await self.search.find(db, q)
        hits = found.hits(*asked.conditions())
        if not await db.scalar(select(exists(hits.select())), asked.values):
            readable = self._whole_list(params, viewer)
            found = await self.search.confirm(db, found, readable=readable)
            hits = found.hits(*asked.conditions())
        return rows.join(hits, hits.c.id == self.model.id)

    async def _search(
        self,
        db: AsyncSession,
        search: Search,
        q: str,
        params: Pagination,
        asked: Asked,
        viewer: Principal | None,
    ) -> Slice[ModelT]:
        """The hits of `q`, the best first unless another order was asked for."""
        found = await search.find(db, q)
        page = await self._page_of_hits(db, found, params, asked)
        if page.total:
            return page
        readable = self._whole_list(params, viewer)
        confirmed = await search.confirm(db, found, readable=readable)
        if confirmed is found:
            return page
        return await self._page_of_hits(db, confirmed, params, asked)

    async def _page_of_hits(
        self, db: AsyncSession, found: Found, params: Pagination, asked: Asked
    ) -> Slice[ModelT]:
        hits = found.hits(*asked.conditions())
        best_first = (
            SortKey(RANK, hits.c.rank, is_descending=True),
            SortKey("id", hits.c.id, is_descending=False),
        )
        keys = self._sort_keys(params) if params.sort else best_first
        window = self._window(params, keys)
        count = select(func.count()).select_from(hits)
        items = select(self.shown(), count.scalar_subquery(), hits.c.rank)
        items = window.cut(items.join(hits, hits.c.id == self.model.id))
        rows = (await db.execute(items, {**asked.values, **window.values()})).all()
        total = rows[0][1] if rows else await db.scalar(count, asked.values) or 0
        texts = SEPARATOR.join(row[0] for row in rows)
        ranks = [row[2] for row in rows]
        return _slice(window, texts, total, bound=MAX_HITS - 1, ranks=ranks)

    def _row(self, viewer: Principal | None) -> AnySelect:
        is_it = self.model.id == bindparam("id")
        version = self.model.version if issubclass(self.model, Versioned) else literal(None)
        return select(self.shown(), version).where(is_it, self.readable(any_like(viewer)))

    def shown(self) -> RowJSON:
        """An item, as the schema has it."""
        return RowJSON({name: getattr(self.model, name) for name in self.schema.model_fields})

    def readable(self, viewer: Principal | None) -> ColumnElement[bool]:
        return and_(self.policy.read(viewer), self._is_deleted(False))

    def _is_deleted(self, yes: bool) -> ColumnElement[bool]:
        if not issubclass(self.model, SoftDeletable):
            return literal(not yes)
        deleted_at: InstrumentedAttribute[Any] = self.model.deleted_at
        return deleted_at.is_not(None) if yes else deleted_at.is_(None)

    async def _ask(
        self,
        fetch: Execute,
        params: Sortable,
        viewer: Principal | None,
        within: Mapping[InstrumentedAttribute[Any], Any],
    ) -> Asked:
        sent = vars(params)
        is_deleted = sent.get("is_deleted", False)
        filters = [
            (each, await each.resolve(value, fetch))
            for each in self.declared_filters
            if (value := sent.get(each.parameter)) is not None
        ]
        shape: Hashable = (
            *(self, "rows", rights_of(viewer), is_deleted, *within),
            *(each.shape(value) for each, value in filters),
        )
        values = viewer_values(viewer) | {"count_bound": MAX_COUNT + 1}
        for each, value in filters:
            values |= each.values(value)
        for column, value in within.items():
            values[f"within_{column.key}"] = value

        def conditions() -> Iterator[ColumnElement[bool]]:
            yield self._listed(any_like(viewer), is_deleted)
            for each, value in filters:
                yield each.condition(value)
            for column in within:
                yield column == bindparam(f"within_{column.key}", type_=column.type)

        return Asked(shape, conditions, values)

    def _listed(self, viewer: Principal | None, is_deleted: bool) -> ColumnElement[bool]:
        if is_deleted:
            return and_(self.policy.write(viewer), self._is_deleted(True))
        return self.readable(viewer)

    def _whole_list(self, params: Sortable, viewer: Principal | None) -> ColumnElement[bool]:
        """The list without its filters, which do not change what the words of `q` mean."""
        return self._listed(viewer, vars(params).get("is_deleted", False))

    def _sort_keys(self, params: Sortable) -> Sequence[SortKey]:
        names = params.sort.split(",") if params.sort else []
        # A total order, or pages would skip rows and repeat them.
        names.append("-id" if names and names[-1].startswith("-") else "id")
        keys: dict[str, SortKey] = {}
        for name in names:
            keys.setdefault(name.removeprefix("-"), self.sort_keys[name])
        return tuple(keys.values())

    def _window(self, params: Pagination, keys: Sequence[SortKey]) -> Window:
        order = [(key.name, key.is_descending) for key in keys]
        context = to_json([self.model.__tablename__, order, vars(params).get("q")])
        return Window.of(params, keys, context)

    def _page(self, asked: Asked, window: Window, counting: Counting) -> AnySelect:
        """All items in one row, and the total: each further one would cost the driver."""
        item = self.shown().label("item")
        page = window.cut(select(item).where(*asked.conditions())).subquery()
        items = select(JoinedJSON(page.c.item)).scalar_subquery()
        return select(items, self._total(asked, counting))

    def _total(self, asked: Asked, counting: Counting) -> ColumnElement[Any]:
        if counting == "none":
            return null()
        rows: AnySelect = select(literal_column("1")).select_from(self.model)
        rows = rows.where(*asked.conditions())
        if counting == "bounded":
            rows = rows.limit(bindparam("count_bound", type_=Integer))
        return select(func.count()).select_from(rows.subquery()).scalar_subquery()


def _slice(
    window: Window,
    found: str,
    total: int | None,
    *,
    bound: int | None,
    ranks: Sequence[float] = (),
) -> Slice[Any]:
    """`total` is None if nothing was counted, and `bound` is as far as was counted, if not all."""
    total_is: TotalIs = "exact"
    if total is None:
        total_is = "not_counted"
    elif bound is not None and total > bound:
        total, total_is = bound, "at_least"
    items, next_cursor, previous_cursor = window.page_of(found, ranks)
    return Slice(
        items=items,
        total=total,
        total_is=total_is,
        page=window.page,
        size=window.limit,
        next_cursor=next_cursor,
        previous_cursor=previous_cursor,
    )


def _may_lag(viewer: Principal | None) -> bool:
    """A writer reads his own writes."""
    return not (viewer and viewer.wrote_lately)


def rights_of(viewer: Principal | None) -> bool | None:
    return viewer.is_superuser if viewer else None
