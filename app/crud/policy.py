"""Who may read and who may write which rows: part of every query of a resource."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, ColumnExpressionArgument, false, or_, true

from app.models import User

# The rows that a viewer gets; None is somebody who has not signed in.
Rule = Callable[[User | None], ColumnElement[bool]]


@dataclass(frozen=True)
class Policy:
    read: Rule
    write: Rule


def everybody(viewer: User | None) -> ColumnElement[bool]:
    return true()


def superusers(viewer: User | None) -> ColumnElement[bool]:
    return true() if viewer and viewer.is_superuser else false()


def owner(column: ColumnExpressionArgument[Any]) -> Rule:
    """Whoever `column` names, and superusers."""

    def rule(viewer: User | None) -> ColumnElement[bool]:
        if viewer is None or viewer.is_superuser:
            return superusers(viewer)
        return column == viewer.id  # type: ignore[return-value]

    return rule


def only(rows: ColumnExpressionArgument[bool]) -> Rule:
    """Everybody, but of the rows only these."""
    return lambda viewer: or_(rows)


def either(*rules: Rule) -> Rule:
    return lambda viewer: or_(*(rule(viewer) for rule in rules))
