"""The table of the specimen's routes."""

from itertools import count

from specimen.factories import (
    change_product,
    change_webhook,
    create_another,
    create_webhook,
    new_delivery,
    valid_product,
    valid_webhook,
)
from timberframe.schemas.webhook import WebhookDelivery
from timberframe.testing import ALICE
from timberframe.testing.routes import (
    EVERYBODY,
    HIDDEN_OWNER,
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

WEBHOOK = "/webhooks/{webhook_id}"
DELIVERY = frozenset(WebhookDelivery.model_fields)
WEBHOOKS = Resource(
    "/webhooks/",
    "webhook_id",
    "owner",
    create=create_webhook,
    valid=valid_webhook,
    change=change_webhook,
    takes=frozenset({"description", "is_active"}),
    read_only=frozenset({"paused_at", "pause_reason"}),
    shown_once=frozenset({"secret"}),
    further=(
        Route(
            "POST",
            f"{WEBHOOK}/secret",
            HIDDEN_OWNER,
            shows=frozenset({"secret", "previous_secret_until"}),
        ),
        Route("GET", f"{WEBHOOK}/deliveries", HIDDEN_OWNER, shows=DELIVERY | PAGE),
        Route(
            "POST",
            f"{WEBHOOK}/deliveries/{{delivery_id}}/redeliver",
            HIDDEN_OWNER,
            202,
            shows=frozenset({"message"}),
            makes={"delivery_id": new_delivery},
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
    WEBHOOKS,
)
