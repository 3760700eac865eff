"""Create, read, update and delete: a resource declares its policy, and what its lists accept."""

from timberframe.crud.base import CreateSchemaT, CRUDBase, UpdateSchemaT
from timberframe.crud.filters import EQUALITY, RANGE, Condition, Filter, HasAll
from timberframe.crud.policy import (
    Policy,
    Principal,
    either,
    everybody,
    only,
    owner,
    signed_in,
    superusers,
)
from timberframe.crud.results import ModelT
from timberframe.crud.row_limit import RowLimit
from timberframe.search.query import Search

__all__ = [
    "EQUALITY",
    "RANGE",
    "CRUDBase",
    "Condition",
    "CreateSchemaT",
    "Filter",
    "HasAll",
    "ModelT",
    "Policy",
    "Principal",
    "RowLimit",
    "Search",
    "UpdateSchemaT",
    "either",
    "everybody",
    "only",
    "owner",
    "signed_in",
    "superusers",
]
