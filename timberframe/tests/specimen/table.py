"""The table of the specimen's routes."""

from itertools import count

from specimen.factories import change_product, create_another, valid_product
from timberframe.testing import ALICE
from timberframe.testing.routes import (
    EVERYBODY,
    JOBS,
    OWNER,
    PAGE,
    PUBLIC,
    SIGNED_IN,
    SUPERUSER,
    Resource,
    Route,
)

USER = frozenset({"id", "email", "username", "full_name", "is_active", "created_at", "updated_at"})
OF_ONESELF = frozenset({"email", "full_name", "password", "current_password"})
BY_SUPERUSERS = frozenset({"email", "full_name", "is_active", "is_superuser"})

PATH = "/products/"
ROW = f"{PATH}{{product_id}}"
FIELDS = frozenset({"sku", "name", "description", "price", "currency", "stock", "is_active"})
FIELDS |= {"category", "tags"}
SHOWN = FIELDS | {"id", "owner_id", "created_at", "updated_at"}
MOVEMENT = frozenset({"id", "product_id", "delta", "stock", "reason", "moved_by_id", "created_at"})
REPORT = frozenset({"mode", "dry_run", "created", "updated", "unchanged", "refused", "errors"})
REPORT |= {"errors_total"}

PRODUCTS = Resource(
    PATH,
    "product_id",
    "public-read",
    create=create_another,
    valid=valid_product,
    change=change_product,
    takes=FIELDS,
    hiding={"is_active": False},
    further=(
        Route(
            "POST",
            f"{PATH}import",
            SIGNED_IN,
            sends={"content": "sku,name,price", "headers": {"Content-Type": "text/csv"}},
            shows=REPORT,
        ),
        Route("GET", f"{PATH}export", EVERYBODY),
        Route("GET", f"{PATH}events", EVERYBODY),
        Route("POST", f"{ROW}/restore", OWNER, shows=SHOWN),
        Route("GET", f"{ROW}/stock-movements", OWNER, shows=MOVEMENT | PAGE),
        Route(
            "POST",
            f"{ROW}/stock-movements",
            OWNER,
            201,
            json={"delta": 5, "reason": "Delivery"},
            shows=MOVEMENT,
        ),
    ),
)

_NUMBERS = count()


def new_name() -> dict[str, str]:
    return {"full_name": f"Name {next(_NUMBERS)}"}


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
    Route("PUT", "/users/me", SIGNED_IN, json=new_name, takes=OF_ONESELF, shows=USER),
    Route("PATCH", "/users/me", SIGNED_IN, json=new_name, takes=OF_ONESELF, shows=USER),
    Route("GET", "/users/{user_id}", OWNER, shows=USER),
    Route("PATCH", "/users/{user_id}", SUPERUSER, json=new_name, takes=BY_SUPERUSERS, shows=USER),
    Route("DELETE", "/users/{user_id}", SUPERUSER, 204),
    *JOBS,
    PRODUCTS,
)
