"""Categories: a tree that stays without cycles even when several are moved at once."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Integer, bindparam, false, func, literal, select
from sqlalchemy.orm import InstrumentedAttribute, aliased
from timberframe.crud import (
    EQUALITY,
    RANGE,
    Database,
    Fetch,
    Filter,
    Policy,
    Principal,
    UnitOfWork,
    everybody,
    superusers,
)
from timberframe.data.query import AnySelect
from timberframe.errors import InvalidInput, UnknownReference
from timberframe.results import Created
from timberframe.schemas.fields import Slug

from app import schemas
from app.crud.base import CRUDBase
from app.models import Category
from app.models.category import category_counts
from app.schemas import CategoryCreate, CategoryUpdate

MAX_DEPTH = 10
MAX_BELOW = 1_000


class CRUDCategory(CRUDBase[Category, CategoryCreate, CategoryUpdate]):
    policy = Policy(read=everybody, write=superusers)
    schema = schemas.Category
    filters = {
        Category.slug: EQUALITY,
        Category.name: ("eq", "prefix"),
        Category.parent: (*EQUALITY, "isnull"),
        Category.created_at: RANGE,
        Category.updated_at: RANGE,
    }
    sorted_by = (Category.slug, Category.name, Category.created_at, Category.updated_at)

    async def create(  # type: ignore[override]  # the locks on what is above need a unit of work
        self,
        db: UnitOfWork,
        *,
        obj_in: CategoryCreate,
        viewer: Principal | None,
        **values: Any,
    ) -> Created[Category]:
        self.check_creator(viewer)
        await self._check_place(db.fetch, obj_in.parent, height=1)
        return await super().create(db, obj_in=obj_in, viewer=viewer, **values)

    async def update(
        self,
        db: UnitOfWork,
        *,
        db_obj: Category,
        obj_in: CategoryUpdate,
        viewer: Principal | None = None,
    ) -> Category:
        if isinstance(obj_in.parent, str) and obj_in.parent != db_obj.parent:
            height = await db.scalar(_height(), {"slug": db_obj.slug})
            await self._check_place(db.fetch, obj_in.parent, height=height or 1, moved=db_obj.slug)
        return await super().update(db, db_obj=db_obj, obj_in=obj_in, viewer=viewer)

    async def count_products(self, db: Database) -> schemas.CategoryCounts:
        """Count by category; each count includes the categories below it."""
        rows = await db.fetch("category counts", _counts, {})
        items = [schemas.CategoryCount(category=slug, products=count) for slug, count in rows]
        return schemas.CategoryCounts(items=items)

    async def _check_place(
        self, fetch: Fetch, parent: str | None, *, height: int, moved: str | None = None
    ) -> None:
        """Raise if `moved`, with `height` levels in it, would be below itself or too deep there.

        Each row on the way up is locked before it is read, so a concurrent move of one of them
        waits.
        """
        depth = 0
        while parent is not None:
            depth += 1
            if parent == moved:
                raise InvalidInput.at("body", "parent", msg="must not be the category or below it")
            if depth + height > MAX_DEPTH:
                msg = f"must leave the tree no deeper than {MAX_DEPTH} categories"
                raise InvalidInput.at("body", "parent", msg=msg)
            parent = await self._parent_of(fetch, parent)

    async def _parent_of(self, fetch: Fetch, slug: str) -> str | None:
        rows = await fetch("category above", _above, {"slug": slug})
        if not rows:
            raise UnknownReference("parent", Category.__name__)
        parent: str | None = rows[0][0]
        return parent


@dataclass(frozen=True)
class Below(Filter):
    """Rows in a category, or in one below it.

    The categories are looked up first, so that an index finds the rows even if few or none match.
    """

    category: InstrumentedAttribute[Any]

    @property
    def value_type(self) -> Any:
        return Slug

    async def resolve(self, sent: str, fetch: Fetch) -> Sequence[str]:
        rows = await fetch("categories below", _below, {"slug": sent, "limit": MAX_BELOW + 1})
        if len(rows) > MAX_BELOW:
            msg = f"has more than {MAX_BELOW} categories below it"
            raise InvalidInput.at("query", self.parameter, msg=msg)
        return [slug for (slug,) in rows]

    def values(self, sent: Sequence[str]) -> dict[str, Any]:
        return self.bound(*sent)

    def shape(self, sent: Sequence[str]) -> Hashable:
        return self.parameter, len(self.values(sent))

    def condition(self, sent: Sequence[str]) -> ColumnElement[bool]:
        slugs: list[Any] = [bindparam(name) for name in self.values(sent)]
        return self.category.in_(slugs) if slugs else false()


def _above() -> AnySelect:
    is_it = Category.slug == bindparam("slug")
    return select(Category.parent).where(is_it).with_for_update(key_share=True)


def _below() -> AnySelect:
    tree = (
        select(Category.slug).where(Category.slug == bindparam("slug")).cte("tree", recursive=True)
    )
    below = select(Category.slug).join(tree, Category.parent == tree.c.slug)
    slugs = select(tree.union_all(below).c.slug)
    return slugs.order_by("slug").limit(bindparam("limit", type_=Integer))


def _height() -> AnySelect:
    """The number of levels of the tree that begins with `slug`."""
    levels = (
        select(Category.slug, literal(1).label("depth"))
        .where(Category.slug == bindparam("slug"))
        .cte("levels", recursive=True)
    )
    below = select(Category.slug, levels.c.depth + 1).join(levels, Category.parent == levels.c.slug)
    return select(func.max(levels.union_all(below).c.depth))


def _counts() -> AnySelect:
    start = aliased(Category)
    above = select(start.slug.label("slug"), start.slug.label("above")).cte(recursive=True)
    parents = select(above.c.slug, Category.parent).join(above, Category.slug == above.c.above)
    above = above.union_all(parents.where(Category.parent.is_not(None)))
    total = func.coalesce(func.sum(category_counts.c.products), 0)
    counted = above.outerjoin(category_counts, category_counts.c.category == above.c.slug)
    counts = select(above.c.above, total).select_from(counted)
    return counts.group_by(above.c.above).order_by(above.c.above)


category_crud = CRUDCategory(Category)
