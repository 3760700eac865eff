"""The base of all your resources: a method or a declaration here applies to each of them."""

from typing import Generic

from timberframe.crud import CreateSchemaT, ModelT, UpdateSchemaT
from timberframe.crud import CRUDBase as FrameCRUDBase


class CRUDBase(
    FrameCRUDBase[ModelT, CreateSchemaT, UpdateSchemaT],
    Generic[ModelT, CreateSchemaT, UpdateSchemaT],
):
    pass
