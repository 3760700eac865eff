"""What a crud class declares, looked at when the application starts."""

from typing import TYPE_CHECKING, Any

from sqlalchemy import make_url
from sqlalchemy.orm import InstrumentedAttribute

from app.schemas.bulk import ExportParams
from app.schemas.page import CommonQueryParams

if TYPE_CHECKING:
    from app.crud.reading import ReadBase

_POSTGRESQL = make_url("postgresql+asyncpg://").get_dialect()()
_TAKEN = {"is_deleted", *CommonQueryParams.model_fields, *ExportParams.model_fields}


def check_declarations(crud: "ReadBase[Any]") -> None:
    """Raise TypeError for what could only fail, or leak, at a request."""
    name = type(crud).__name__
    for declaration in ("policy", "schema"):
        if not hasattr(crud, declaration):
            raise TypeError(f"{name} must state its {declaration}")
    crud.shown()
    for each in crud.declared_filters:
        if each.parameter in _TAKEN:
            raise TypeError(f"{name} cannot filter by {each.parameter}: lists have it already")
    for column, operators in crud.filters.items():
        if "prefix" in operators:
            _check_order(name, column)
    for column in crud.sorted_by:
        _check_order(name, column)
        if column.key not in crud.schema.model_fields:
            raise TypeError(f"{name} cannot sort by {column.key}: its schema does not show it")
        if column.property.columns[0].nullable:
            raise TypeError(f"{name} cannot sort by {column.key}: null is neither before nor after")


def _check_order(name: str, column: InstrumentedAttribute[Any]) -> None:
    """Texts by code points: the locale of a server must not decide what a page holds."""
    type_ = column.type.dialect_impl(_POSTGRESQL)
    if column.type.python_type is str and getattr(type_, "collation", None) != "C":
        raise TypeError(f"{name}: {column.key} needs the type Text of app.db.base, in collation C")
