"""The routes that belong to no resource; those of a resource stand in its test module."""

from itertools import count

from timberframe.testing import ALICE
from timberframe.testing.routes import (
    JOBS,
    OWNER,
    PAGE,
    PUBLIC,
    SIGNED_IN,
    SUPERUSER,
    Route,
)

USER = frozenset({"id", "email", "username", "full_name", "is_active", "created_at", "updated_at"})
CHANGE, OTHER_CHANGE = {"full_name": "New Name"}, {"full_name": "Other Name"}
OF_ONESELF = frozenset({"email", "full_name", "password", "current_password"})
BY_SUPERUSERS = frozenset({"email", "full_name", "is_active", "is_superuser"})

_NUMBERS = count()


def new_user() -> dict[str, str]:
    name = f"new{next(_NUMBERS)}"
    return {"email": f"{name}@example.com", "username": name, "password": "New-Pass-1"}


ROUTES = (
    Route(
        "POST",
        "/auth/login",
        PUBLIC,
        sends={"data": {"username": ALICE.name, "password": ALICE.password}},
        shows=frozenset({"access_token", "token_type", "expires_in"}),
    ),
    Route("GET", "/users/", SUPERUSER, shows=USER | PAGE),
    Route(
        "POST", "/users/", PUBLIC, 201, json=new_user, takes=frozenset({"full_name"}), shows=USER
    ),
    Route("GET", "/users/me", SIGNED_IN, shows=USER),
    Route("PUT", "/users/me", SIGNED_IN, json=CHANGE, takes=OF_ONESELF, shows=USER),
    Route("PATCH", "/users/me", SIGNED_IN, json=OTHER_CHANGE, takes=OF_ONESELF, shows=USER),
    Route("GET", "/users/{user_id}", OWNER, shows=USER),
    Route("PATCH", "/users/{user_id}", SUPERUSER, json=CHANGE, takes=BY_SUPERUSERS, shows=USER),
    Route("DELETE", "/users/{user_id}", SUPERUSER, 204),
    Route(
        "POST",
        "/send-notification/",
        SUPERUSER,
        sends={"params": {"email": "somebody@example.com"}},
        shows=frozenset({"message"}),
    ),
    *JOBS,
)
