"""Who may read, write and create which rows: part of every query of a resource."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, BindParameter, ColumnElement, false, or_, true
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.sql.elements import Grouping

from timberframe.errors import WrongDeclaration


@dataclass(frozen=True)
class Principal:
    """The user who makes a request: signed in and active."""

    id: int
    is_superuser: bool
    wrote_lately: bool = False  # a replica may not have their last write yet


# For the project's own commands, which act for no particular user.
SERVER = Principal(id=0, is_superuser=True)

# A condition for the rows that a viewer gets; None is somebody who has not signed in. It is
# compiled once for all viewers with the same rights: only the viewer's id is a parameter, any other
# Python value stays what it was at that time. For what changes, such as the time, use a function of
# the database: `func.now()`.
Rule = Callable[[Principal | None], ColumnElement[bool]]


@dataclass(frozen=True)
class Policy:
    """Who may read, write and create a row; `create` is checked against the row as it would be.

    Without a `create`, signed-in users may create what they may write: superusers only, where only
    these write, and everybody their own rows, where a row has an owner.
    """

    read: Rule
    write: Rule
    create: Rule | None = None

    def creatable(self, viewer: Principal | None) -> ColumnElement[bool]:
        """The condition that a new row must meet; `false()` if `viewer` may create none."""
        if self.create:
            return self.create(viewer)
        return self.write(viewer) if viewer else false()


def everybody(viewer: Principal | None) -> ColumnElement[bool]:
    return true()


def signed_in(viewer: Principal | None) -> ColumnElement[bool]:
    return true() if viewer else false()


def superusers(viewer: Principal | None) -> ColumnElement[bool]:
    return true() if viewer and viewer.is_superuser else false()


def owner(column: InstrumentedAttribute[int]) -> Rule:
    """The user whom `column` names, and superusers."""

    def rule(viewer: Principal | None) -> ColumnElement[bool]:
        if viewer is None or viewer.is_superuser:
            return superusers(viewer)
        return column == viewer.id

    return rule


def only(rows: ColumnElement[bool] | InstrumentedAttribute[bool]) -> Rule:
    """Everybody, but only these rows; raise `WrongDeclaration` unless it is a condition."""
    if not isinstance(rows, (ColumnElement, InstrumentedAttribute)):
        raise WrongDeclaration(f"only({rows!r}): it takes a condition, as only(Product.is_active)")
    return lambda viewer: or_(rows)


def either(*rules: Rule) -> Rule:
    return lambda viewer: or_(*(rule(viewer) for rule in rules))


def with_rights_of(viewer: Principal | None) -> Principal | None:
    """A stand-in for all viewers with the same rights, so that a condition is compiled only once.

    Its id is a bind parameter, whose value `viewer_values` gives.
    """
    if viewer is None:
        return None
    any_id: Any = _AnyId("viewer_id", type_=BigInteger, required=True)
    return Principal(id=any_id, is_superuser=viewer.is_superuser)


class _AnyId(BindParameter[int]):
    """Comparisons give conditions, which raise where a rule takes their truth value.

    Otherwise a rule that branches on `viewer.id == 1` would silently take the same branch for
    everybody: SQLAlchemy takes the comparison of two different expressions for false.
    """

    inherit_cache = True

    def __eq__(self, other: object) -> Any:
        return Grouping(super().__eq__(other))

    def __ne__(self, other: object) -> Any:
        return Grouping(super().__ne__(other))

    __hash__ = BindParameter.__hash__


def viewer_values(viewer: Principal | None) -> dict[str, Any]:
    return {"viewer_id": viewer.id} if viewer else {}
