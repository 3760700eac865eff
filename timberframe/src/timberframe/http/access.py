"""Who may call a route, as its dependencies and the policy of its resource say."""

from collections.abc import Iterator
from typing import Literal

from fastapi.dependencies.models import Dependant
from sqlalchemy import ColumnElement
from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import False_

from timberframe.crud.policy import Principal, Rule
from timberframe.http.dependencies import (
    calls_of,
    get_current_superuser,
    get_current_user,
    get_optional_user,
)
from timberframe.http.resources import Right, rights_of

Access = Literal["public", "everybody", "signed-in", "owner", "superuser"]

# From open to closed: a route is as closed as the most closed of what it depends on. For `public`
# the route does not even look at credentials; `everybody` may send none, but no wrong ones.
_CLOSED = ("public", "everybody", "signed-in", "owner", "superuser")
_OF_CALLS: dict[object, Access] = {
    get_optional_user: "everybody",
    get_current_user: "signed-in",
    get_current_superuser: "superuser",
}
_ANY_ID = -1  # no account has it


def access_of(dependant: Dependant) -> Access:
    """Who may call a route; conditions that its own functions check are not known here."""
    calls = calls_of(dependant)
    found: list[Access] = ["public", *(_OF_CALLS[call] for call in calls if call in _OF_CALLS)]
    found += map(_access_by, rights_of(dependant))
    return max(found, key=_CLOSED.index)


def guards_of(dependant: Dependant) -> Iterator[str]:
    """The names of the application's own functions in `dependencies=[…]` of a route."""
    for each in dependant.dependencies:
        call = each.call
        # What a handler takes as an argument has a name.
        if each.name is None and not getattr(call, "__module__", "").startswith("timberframe."):
            yield getattr(call, "__name__", type(call).__name__)


def _access_by(right: Right) -> Access:
    policy = right.crud.policy
    if right.action == "create":
        return "superuser" if _is_false(policy.creatable(_USER)) else "signed-in"
    rule = policy.write if right.action == "write" else policy.read
    if right.action != "write" and not _is_false(rule(None)):
        return "everybody"
    if _is_false(rule(_USER)):
        return "superuser"
    # A list is for all who have signed in: it shows each of them their own rows.
    return "owner" if right.action != "list" and _depends_on_viewer(rule) else "signed-in"


_USER = Principal(id=_ANY_ID, is_superuser=False)


def _is_false(condition: ColumnElement[bool]) -> bool:
    return isinstance(condition, False_)


def _depends_on_viewer(rule: Rule) -> bool:
    return any(getattr(e, "value", None) == _ANY_ID for e in visitors.iterate(rule(_USER)))
