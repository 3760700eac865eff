"""A resource without a policy does not start; with one, every query obeys it."""

from typing import Any

import pytest

from app import schemas
from app.crud.base import CRUDBase
from app.crud.policy import Policy, Principal, either, everybody, only, owner, superusers
from app.models import Product

ANONYMOUS = None
ALICE = Principal(id=1, is_superuser=False)
ADMIN = Principal(id=3, is_superuser=True)


def test_resource_without_a_policy_does_not_start() -> None:
    class CRUDForgetful(CRUDBase[Product, Any, Any]):
        pass

    with pytest.raises(TypeError, match="CRUDForgetful must state its policy"):
        CRUDForgetful(Product)


def test_resource_with_a_policy_starts() -> None:
    """The control."""

    class CRUDCareful(CRUDBase[Product, Any, Any]):
        policy = Policy(read=everybody, write=superusers)
        schema = schemas.Product

    assert CRUDCareful(Product).model is Product


RULES = {
    everybody: ("true", "true", "true"),
    superusers: ("false", "false", "true"),
    owner(Product.owner_id): ("false", "products.owner_id = :owner_id_1", "true"),
    only(Product.is_active): ("products.is_active",) * 3,
    either(only(Product.is_active), owner(Product.owner_id)): (
        "products.is_active",
        "products.is_active OR products.owner_id = :owner_id_1",
        "true",
    ),
}


def test_rule_becomes_a_condition_of_the_query() -> None:
    for rule, expected in RULES.items():
        assert tuple(str(rule(viewer)) for viewer in (ANONYMOUS, ALICE, ADMIN)) == expected
