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
from timberframe.data.query import Fetch
from timberframe.data.session import Database
from timberframe.data.unit_of_work import UnitOfWork
from timberframe.search.query import Search

__all__ = [
    "EQUALITY",
    "RANGE",
    "CRUDBase",
    "Condition",
    "CreateSchemaT",
    "Database",
    "Fetch",
    "Filter",
    "HasAll",
    "ModelT",
    "Policy",
    "Principal",
    "RowLimit",
    "Search",
    "UnitOfWork",
    "UpdateSchemaT",
    "either",
    "everybody",
    "only",
    "owner",
    "signed_in",
    "superusers",
]
