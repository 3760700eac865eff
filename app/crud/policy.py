"""Who may read, write and create which rows: part of every query of a resource."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, bindparam, false, or_, true
from sqlalchemy.orm import InstrumentedAttribute


@dataclass(frozen=True)
class Principal:
    """Who asks: a user who is signed in and active."""

    id: int
    is_superuser: bool
    wrote_lately: bool = False  # so that a replica may not have it yet


# The commands of the project itself, which serve nobody in particular.
SERVER = Principal(id=0, is_superuser=True)

# The rows that a viewer gets; None is somebody who has not signed in. A condition is compiled once
# for all with the same rights: the viewer's id is a parameter, any other value of Python's stays as
# it was then. What changes, such as the time, is the database's to say: `func.now()`.
Rule = Callable[[Principal | None], ColumnElement[bool]]


@dataclass(frozen=True)
class Policy:
    """Who may read a row, who may write it, and who may create it, looked at as it would be then.

    Without a `create` of its own, the signed-in users create what they may write: superusers where
    only these write, and everybody for themselves where a row has an owner.
    """

    read: Rule
    write: Rule
    create: Rule | None = None

    def creatable(self, viewer: Principal | None) -> ColumnElement[bool]:
        """The condition that a new row must meet; it may be `false()`, whatever the row is."""
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
    """Whoever `column` names, and superusers."""

    def rule(viewer: Principal | None) -> ColumnElement[bool]:
        if viewer is None or viewer.is_superuser:
            return superusers(viewer)
        return column == viewer.id

    return rule


def only(rows: ColumnElement[bool] | InstrumentedAttribute[bool]) -> Rule:
    """Everybody, but of the rows only these."""
    return lambda viewer: or_(rows)


def either(*rules: Rule) -> Rule:
    return lambda viewer: or_(*(rule(viewer) for rule in rules))


def any_like(viewer: Principal | None) -> Principal | None:
    """Stands for all of the same rights, so that a rule's condition can be compiled once for all.

    The id is a parameter, whose value `viewer_values` gives.
    """
    if viewer is None:
        return None
    any_id: Any = bindparam("viewer_id", type_=BigInteger)
    return Principal(id=any_id, is_superuser=viewer.is_superuser)


def viewer_values(viewer: Principal | None) -> dict[str, Any]:
    return {"viewer_id": viewer.id} if viewer else {}
