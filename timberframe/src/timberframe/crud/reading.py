"""Reads of a resource: from its declarations to rows and pages, as JSON made by the database.

A statement is built and compiled once for each shape of a request, and its values are parameters.
After that a read is one round trip, and creates no Python object per row.
"""

from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Generic

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

from timberframe.crud.declarations import check_declarations, index_orders
from timberframe.crud.filters import FieldOperators, Filter, declared
from timberframe.crud.keyset import RANK, CursorSigner, SortKey, Window, json_reader_of
from timberframe.crud.policy import Policy, Principal, viewer_values, with_rights_of
from timberframe.crud.results import ModelT, Slice, Stored
from timberframe.data.base import MAX_ID, SoftDeletable, Versioned
from timberframe.data.query import AnySelect, Fetch
from timberframe.data.rows_as_json import SEPARATOR, JoinedJSON, RowJSON
from timberframe.data.schema_check import need_search_index
from timberframe.data.session import Database
from timberframe.data.unit_of_work import ReadSession
from timberframe.schemas.page import (
    MAX_HITS,
    MAX_LIMIT,
    Counting,
    Filtered,
    Pagination,
    Sortable,
    TotalIs,
)
from timberframe.search.query import ResolvedQuery, Search
from timberframe.security.keys import Keys

MAX_COUNT = 1_000
STREAMED_ROWS = 500


@dataclass
class ReadPlan:
    """The parts of a read: its conditions depend on `shape` alone, all else is in `values`."""

    shape: Hashable
    conditions: Callable[[], Iterable[ColumnElement[bool]]]
    values: Mapping[str, Any]


class ReadBase(Generic[ModelT]):
    """`viewer` is the user who asks, or None; what they get is up to the policy."""

    policy: ClassVar[Policy]
    schema: ClassVar[type[BaseModel]]
    filters: ClassVar[FieldOperators] = {}
    further_filters: ClassVar[Sequence[Filter]] = ()
    sorted_by: ClassVar[Sequence[InstrumentedAttribute[Any]]] = ()
    search: ClassVar[Search | None] = None
    max_limit: ClassVar[int] = MAX_LIMIT  # rows of one page
    natural_key: ClassVar[str]  # the unique field by which owners identify a row

    def __init__(self, model: type[ModelT]) -> None:
        self.model = model
        check_declarations(self)
        index_orders(self)
        if self.search:
            need_search_index(model.__table__, [field.name for field in self.search.fields])
        own_id: FieldOperators = {model.id: ("in",)}
        self.declared_filters = (*declared(own_id), *declared(self.filters), *self.further_filters)
        self.sort_keys = {
            f"{sign}{column.key}": SortKey(column.key, column, sign == "-", reader)
            for column in (model.id, *self.sorted_by)
            for reader in [json_reader_of(column.type)]
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
        plan = await self._plan(fetch, params, viewer, within or {})
        q = vars(params).get("q")
        counting = params.counting
        if q and self.search:
            async with db.searching(may_lag=_may_lag(viewer)) as session:
                found = await self._search(session, db.keys, self.search, q, params, plan, viewer)
            if counting == "none":
                return replace(found, total=None, total_is="not_counted")
            return found
        window = self._window(params, self._sort_keys(params), db.keys)
        ((items, total),) = await fetch(
            (plan.shape, window.shape(), counting),
            lambda: self._page(plan, window, counting),
            {**plan.values, **window.values()},
        )
        bound = None if counting == "exact" else MAX_COUNT
        return _slice(window, items or "", total, bound=bound)

    async def count(self, db: ReadSession, *, params: Sortable, viewer: Principal | None) -> int:
        """The exact number of rows of a list, which takes a while if there are many."""
        plan = await self._plan(db.fetch, params, viewer, {})
        rows = select(func.count()).select_from(self.model)
        rows = await self._all(db, rows, params, plan, viewer)
        return await db.scalar(rows, plan.values) or 0

    async def stream(
        self,
        db: ReadSession,
        *,
        columns: Sequence[ColumnElement[Any] | InstrumentedAttribute[Any]],
        params: Sortable,
        viewer: Principal | None,
    ) -> AsyncIterator[Sequence[Row[Any]]]:
        """All rows of a list in batches, fetched from the database as they are consumed."""
        plan = await self._plan(db.fetch, params, viewer, {})
        order = (key.order(is_reversed=False) for key in self._sort_keys(params))
        rows = await self._all(db, select(*columns), params, plan, viewer)
        rows = rows.order_by(*order)
        found = await db.stream(rows.execution_options(yield_per=STREAMED_ROWS), plan.values)
        async for some in found.partitions():
            yield some

    async def _all(
        self,
        db: AsyncSession,
        rows: AnySelect,
        params: Sortable,
        plan: ReadPlan,
        viewer: Principal | None,
    ) -> AnySelect:
        q = vars(params).get("q")
        if not (q and self.search):
            return rows.where(*plan.conditions())
        query = await self.search.resolve(db, q)
        hits = query.hits(*plan.conditions())
        if not await db.scalar(select(exists(hits.select())), plan.values):
            readable = self._whole_list(params, viewer)
            query = await self.search.confirm(db, query, readable=readable)
            hits = query.hits(*plan.conditions())
        return rows.join(hits, hits.c.id == self.model.id)

    async def _search(
        self,
        db: AsyncSession,
        keys: Keys,
        search: Search,
        q: str,
        params: Pagination,
        plan: ReadPlan,
        viewer: Principal | None,
    ) -> Slice[ModelT]:
        """The hits of `q`, best first unless the request has a `sort`."""
        query = await search.resolve(db, q)
        page = await self._page_of_hits(db, keys, query, params, plan)
        if page.total:
            return page
        readable = self._whole_list(params, viewer)
        confirmed = await search.confirm(db, query, readable=readable)
        if confirmed is query:
            return page
        return await self._page_of_hits(db, keys, confirmed, params, plan)

    async def _page_of_hits(
        self, db: AsyncSession, keys: Keys, query: ResolvedQuery, params: Pagination, plan: ReadPlan
    ) -> Slice[ModelT]:
        hits = query.hits(*plan.conditions())
        best_first = (
            SortKey(RANK, hits.c.rank, is_descending=True),
            SortKey("id", hits.c.id, is_descending=False),
        )
        sort_keys = self._sort_keys(params) if params.sort else best_first
        window = self._window(params, sort_keys, keys)
        count = select(func.count()).select_from(hits)
        items = select(self.shown(), count.scalar_subquery(), hits.c.rank)
        items = window.cut(items.join(hits, hits.c.id == self.model.id))
        rows = (await db.execute(items, {**plan.values, **window.values()})).all()
        total = rows[0][1] if rows else await db.scalar(count, plan.values) or 0
        texts = SEPARATOR.join(row[0] for row in rows)
        ranks = [row[2] for row in rows]
        return _slice(window, texts, total, bound=MAX_HITS - 1, ranks=ranks)

    def _row(self, viewer: Principal | None) -> AnySelect:
        is_it = self.model.id == bindparam("id")
        version = self.model.version if issubclass(self.model, Versioned) else literal(None)
        return select(self.shown(), version).where(is_it, self.readable(with_rights_of(viewer)))

    def shown(self) -> RowJSON:
        """An item as JSON, with the fields of the schema."""
        return RowJSON({name: getattr(self.model, name) for name in self.schema.model_fields})

    def readable(self, viewer: Principal | None) -> ColumnElement[bool]:
        return and_(self.policy.read(viewer), self._is_deleted(False))

    def _is_deleted(self, yes: bool) -> ColumnElement[bool]:
        if not issubclass(self.model, SoftDeletable):
            return literal(not yes)
        deleted_at: InstrumentedAttribute[Any] = self.model.deleted_at
        return deleted_at.is_not(None) if yes else deleted_at.is_(None)

    async def _plan(
        self,
        fetch: Fetch,
        params: Sortable,
        viewer: Principal | None,
        within: Mapping[InstrumentedAttribute[Any], Any],
    ) -> ReadPlan:
        is_deleted = vars(params).get("is_deleted", False)
        filters = await self.filters_of(params, fetch)
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
            yield self._listed(with_rights_of(viewer), is_deleted)
            for each, value in filters:
                yield each.condition(value)
            for column in within:
                yield column == bindparam(f"within_{column.key}", type_=column.type)

        return ReadPlan(shape, conditions, values)

    async def filters_of(self, params: Filtered, fetch: Fetch) -> Sequence[tuple[Filter, Any]]:
        """The filters that a request has, with their resolved values."""
        sent = vars(params)
        return [
            (each, await each.resolve(value, fetch))
            for each in self.declared_filters
            if (value := sent.get(each.parameter)) is not None
        ]

    def _listed(self, viewer: Principal | None, is_deleted: bool) -> ColumnElement[bool]:
        if is_deleted:
            return and_(self.policy.write(viewer), self._is_deleted(True))
        return self.readable(viewer)

    def _whole_list(self, params: Sortable, viewer: Principal | None) -> ColumnElement[bool]:
        """The list without its filters, which do not change what the words of `q` mean."""
        return self._listed(viewer, vars(params).get("is_deleted", False))

    def _sort_keys(self, params: Sortable) -> Sequence[SortKey]:
        names = params.sort.split(",") if params.sort else []
        # The id makes the order total; otherwise pages could skip or repeat rows.
        names.append("-id" if names and names[-1].startswith("-") else "id")
        keys: dict[str, SortKey] = {}
        for name in names:
            keys.setdefault(name.removeprefix("-"), self.sort_keys[name])
        return tuple(keys.values())

    def _window(self, params: Pagination, sort_keys: Sequence[SortKey], keys: Keys) -> Window:
        order = [(key.name, key.is_descending) for key in sort_keys]
        context = to_json([self.model.__tablename__, order, vars(params).get("q")])
        return Window.of(params, sort_keys, CursorSigner(keys, context))

    def _page(self, plan: ReadPlan, window: Window, counting: Counting) -> AnySelect:
        """All items and the total in one row: each further row costs time in the driver."""
        item = self.shown().label("item")
        page = window.cut(select(item).where(*plan.conditions())).subquery()
        items = select(JoinedJSON(page.c.item)).scalar_subquery()
        return select(items, self._total(plan, counting))

    def _total(self, plan: ReadPlan, counting: Counting) -> ColumnElement[Any]:
        if counting == "none":
            return null()
        rows: AnySelect = select(literal_column("1")).select_from(self.model)
        rows = rows.where(*plan.conditions())
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
    """`total` is None if nothing was counted; `bound` is where counting stopped, if it did."""
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
    """Those who wrote lately read from the primary, so that they read their own writes."""
    return not (viewer and viewer.wrote_lately)


def rights_of(viewer: Principal | None) -> bool | None:
    return viewer.is_superuser if viewer else None
