"""Check what a crud class declares, when the application starts."""

import inspect
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pydantic import BaseModel, PlainSerializer, WrapSerializer
from sqlalchemy import Boolean, Column, Index, Table, UniqueConstraint, make_url
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.types import NullType

from timberframe.crud.filters import EQUALITY, OPERATORS, RANGE, Filter, declared
from timberframe.crud.keyset import json_reader_of
from timberframe.crud.policy import Policy, Principal
from timberframe.crud.row_limit import RowLimit
from timberframe.data.links import referred
from timberframe.errors import WrongDeclaration
from timberframe.schemas.bulk import ExportParams
from timberframe.schemas.page import MAX_HITS, CommonQueryParams
from timberframe.search.query import Search

if TYPE_CHECKING:
    from timberframe.crud.reading import ReadBase

_POSTGRESQL = make_url("postgresql+asyncpg://").get_dialect()()
_DECLARED = (dict, tuple, list, Policy, RowLimit, Search)
_TAKEN = {"id__in", "is_deleted", *CommonQueryParams.model_fields, *ExportParams.model_fields}

# Operators by the Python type of a column; isnull fits every nullable column.
_FITTING: Mapping[type, Sequence[str]] = {
    bool: ("eq",),
    str: ("prefix", *EQUALITY, *RANGE),
    UUID: EQUALITY,
    **dict.fromkeys((int, Decimal, date, datetime), (*EQUALITY, *RANGE)),
}


def index_orders(crud: "ReadBase[Any]") -> None:
    """Add an index for each order that lists may have; the id makes the order total."""
    for column in crud.sorted_by:
        if not (_is_unique(column) or _has_order(column)):
            Index(None, column, crud.model.id)


def check_declarations(crud: "ReadBase[Any]") -> None:
    """Raise `WrongDeclaration` for mistakes that would otherwise fail, or leak, in a request."""
    try:
        for check in (
            _check_names,
            _check_stated,
            _check_rules,
            _check_filters,
            _check_orders,
            _check_keys,
            _check_search,
            _check_limit,
            _check_max_limit,
        ):
            check(crud)
    except TypeError as wrong:
        raise WrongDeclaration(f"{type(crud).__name__} {wrong}") from None


def _check_max_limit(crud: "ReadBase[Any]") -> None:
    # A search finds no more, so a longer page would be longer than its total.
    if not (type(crud.max_limit) is int and 1 <= crud.max_limit < MAX_HITS):
        raise TypeError(f"must state its max_limit as a number from 1 to {MAX_HITS - 1}")


def _check_names(crud: "ReadBase[Any]") -> None:
    """Refuse what has nearly the name of a declaration: it would declare nothing."""
    frame = __name__.partition(".")[0]
    known: set[str] = set()
    stated: dict[str, Any] = {}
    for each in type(crud).__mro__:
        if each.__module__.partition(".")[0] == frame:
            known |= inspect.get_annotations(each).keys()
        else:
            stated |= vars(each)
    for name, value in stated.items():
        if name in known or name.startswith("_") or not isinstance(value, _DECLARED):
            continue
        for nearest in get_close_matches(name, known, n=1, cutoff=0.8):
            raise TypeError(f"states {name}, which declares nothing: did you mean {nearest}?")


def _check_stated(crud: "ReadBase[Any]") -> None:
    model = crud.model.__name__
    for declaration, example in (
        ("policy", "Policy(read=everybody, write=superusers)"),
        ("schema", f"schemas.{model}"),
    ):
        if not hasattr(crud, declaration):
            raise TypeError(f"must state its {declaration}, such as {declaration} = {example}")
    if not isinstance(crud.policy, Policy):
        raise TypeError("must state its policy as Policy(read=…, write=…)")
    if not (isinstance(crud.schema, type) and issubclass(crud.schema, BaseModel)):
        said = getattr(crud.schema, "__name__", repr(crud.schema))
        raise TypeError(
            f"must state its schema as a Pydantic model, such as schemas.{model}: {said} is not one"
        )
    for name in crud.schema.model_fields:
        if not hasattr(crud.model, name):
            raise TypeError(f"cannot show {name}: {crud.model.__name__} has no such column")
    if shaped := _shaped_by_pydantic(crud.schema):
        raise TypeError(
            f"cannot show {shaped}: the database makes the JSON and knows only names and types;"
            " return the schema itself, on a router of FastAPI's"
        )
    crud.shown()


def _shaped_by_pydantic(schema: type[BaseModel]) -> str | None:
    """Describe what only Pydantic would serialize as declared; None if there is nothing."""
    decorators = schema.__pydantic_decorators__
    if schema.model_computed_fields:
        return f"the computed field {next(iter(schema.model_computed_fields))}"
    if decorators.field_serializers or decorators.model_serializers:
        first = next(iter({**decorators.field_serializers, **decorators.model_serializers}))
        return f"the serializer {first}"
    for name, field in schema.model_fields.items():
        if (field.serialization_alias or name) != name:
            return f"{name} under the alias {field.serialization_alias}"
        if field.exclude:
            return f"{name}, which is excluded"
        if any(isinstance(each, (PlainSerializer, WrapSerializer)) for each in field.metadata):
            return f"the serializer of {name}"
    return None


def _check_rules(crud: "ReadBase[Any]") -> None:
    """Try each rule with every kind of viewer: it may return a condition for some of them only."""
    right = f"a rule returns a condition, as owner({crud.model.__name__}.owner_id) does"
    for name in ("read", "write", "create"):
        rule = getattr(crud.policy, name)
        if rule is None and name == "create":
            continue
        if not callable(rule):
            raise TypeError(f"cannot have {rule} as the policy's {name}: {right}")
        nobody = () if name == "write" else (None,)  # anonymous viewers write nothing
        users = (Principal(0, is_superuser=False), Principal(0, is_superuser=True))
        for viewer in (*nobody, *users):
            condition = rule(viewer)
            if not isinstance(getattr(condition, "type", None), (Boolean, NullType)):
                raise TypeError(f"has a policy whose {name} returns {condition}: {right}")


def _check_filters(crud: "ReadBase[Any]") -> None:
    _check_tuple("further_filters", crud.further_filters)
    if not isinstance(crud.filters, Mapping):
        raise TypeError("must state its filters as {column: operators}")
    for column, operators in crud.filters.items():
        _check_own(crud, "filters", column)
        _check_tuple(f"filters, {column.key}", operators)
        for name in operators:
            _check_operator(column, name)
    known = set(_TAKEN)
    for each in (*declared(crud.filters), *crud.further_filters):
        if not isinstance(each, Filter):
            raise TypeError(f"has a further filter that is not a Filter: {each!r}")
        if each.parameter in known:
            raise TypeError(f"cannot filter by {each.parameter}: lists already have that parameter")
        known.add(each.parameter)
        each.value_type  # noqa: B018 - raises TypeError where there is none


def _check_operator(column: InstrumentedAttribute[Any], name: str) -> None:
    if name not in OPERATORS:
        known = ", ".join(OPERATORS)
        raise TypeError(f"cannot filter {column.key} by {name!r}: there are {known}")
    if name == "isnull":
        if not _column_of(column).nullable:
            raise TypeError(f"cannot filter {column.key} by 'isnull': it is never null")
        return
    kind = column.type.python_type
    fitting = _FITTING.get(kind, OPERATORS)
    if name not in fitting:
        fits = ", ".join(dict.fromkeys(fitting))
        raise TypeError(f"cannot filter {column.key} by {name!r}: {kind.__name__} has {fits}")
    if name not in EQUALITY:
        _check_collation(column)


def _check_orders(crud: "ReadBase[Any]") -> None:
    # From the class: on an instance a column without the tuple's comma acts as a descriptor.
    _check_tuple("sorted_by", type(crud).sorted_by)
    for column in crud.sorted_by:
        _check_own(crud, "sorted_by", column)
        _check_collation(column)
        if column.key not in crud.schema.model_fields:
            raise TypeError(f"cannot sort by {column.key}: its schema does not show it")
        if _column_of(column).nullable:
            raise TypeError(f"cannot sort by {column.key}: it may be null, and null has no order")
        try:
            json_reader_of(column.type)
        except TypeError as unknown:
            raise TypeError(f"cannot sort by {column.key}: {unknown}") from None


def _check_keys(crud: "ReadBase[Any]") -> None:
    if key := getattr(type(crud), "natural_key", None):
        column: Any = getattr(crud.model, key, key) if isinstance(key, str) else str(key)
        _check_own(crud, "natural_key", column)
        if not _is_unique(column):
            raise TypeError(f"cannot identify a row by {key}: it is not unique")
        if not issubclass(column.type.python_type, (str, int)):
            raise TypeError(
                f"cannot identify a row by {key}: it is neither text nor a whole number"
            )
    references = getattr(crud, "references", {})
    if not isinstance(references, Mapping):
        raise TypeError("must state its references as {column: crud of what it names}")
    for column, other in references.items():
        _check_own(crud, "references", column)
        if not hasattr(other, "model"):
            raise TypeError(f"has {column.key} refer to {other!r}: it must be a crud, not a name")
        tables = [target.table for target in referred(_column_of(column))]
        if tables != [other.model.__table__]:
            raise TypeError(
                f"has {column.key} refer to {other.model.__name__}: no foreign key does"
            )


def _check_search(crud: "ReadBase[Any]") -> None:
    # From the class, as in _check_orders.
    search = type(crud).search
    if search is None:
        return
    if not isinstance(search, Search) or not search.fields:
        model = crud.model.__name__
        raise TypeError(f"must state its search as Search({model}, …), with one column or more")
    if search.model is not crud.model:
        raise TypeError(f"has the search of {search.model.__name__}")
    for column in search.fields:
        _check_own(crud, "search", column)
        if column.type.python_type is not str:
            raise TypeError(f"cannot search {column.key}: it is not text")


def _check_limit(crud: "ReadBase[Any]") -> None:
    limit = getattr(crud, "row_limit", None)
    if limit is None:
        return
    if not isinstance(limit, RowLimit) or not isinstance(limit.rows, int) or limit.rows < 1:
        raise TypeError("must state its row_limit as RowLimit(owner, rows), one row or more")
    _check_own(crud, "row_limit", limit.owner)
    column = _column_of(limit.owner)
    if column.nullable:
        raise TypeError(f"cannot limit the rows of {limit.owner.key}: it may be null")
    if column.name not in [_names(index)[0] for index in _table_of(column).indexes]:
        raise TypeError(
            f"cannot limit the rows of {limit.owner.key}: it needs an index to count by"
        )


def _check_tuple(name: str, value: object) -> None:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise TypeError(f"must state {name} as a tuple, with a comma even after one: ({value},)")


def _check_own(crud: "ReadBase[Any]", name: str, column: Any) -> None:
    is_column = isinstance(column, InstrumentedAttribute)
    if not is_column or getattr(crud.model, column.key, None) is not column:
        said = str(column) if is_column else repr(column)
        model = crud.model.__name__
        is_named = isinstance(column, str) and hasattr(crud.model, column)
        hint = f", but {model}.{column} is" if is_named else ""
        raise TypeError(f"cannot have {said} in {name}: it is not a column of {model}{hint}")


def _check_collation(column: InstrumentedAttribute[Any]) -> None:
    """Require sorting by code point: the server's locale must not decide what a page holds."""
    type_ = column.type.dialect_impl(_POSTGRESQL)
    if column.type.python_type is str and getattr(type_, "collation", None) != "C":
        raise TypeError(
            f"needs {column.key} to be of type Text of timberframe.models, in collation C"
        )


def _column_of(attribute: Any) -> Column[Any]:
    column: Column[Any] = attribute.property.columns[0]
    return column


def _is_unique(attribute: Any) -> bool:
    """Whether the column alone is unique, at least among rows that are not deleted."""
    column = _column_of(attribute)
    table = _table_of(column)
    rules = [
        [each.name for each in constraint.columns]
        for constraint in table.constraints
        if isinstance(constraint, UniqueConstraint)
    ]
    indexes = [_names(index) for index in table.indexes if index.unique]
    return [column.name] in rules or [column.name] in indexes


def _has_order(attribute: Any) -> bool:
    column = _column_of(attribute)
    return [column.name, "id"] in [_names(index)[:2] for index in _table_of(column).indexes]


def _table_of(column: Column[Any]) -> Table:
    table: Table = column.table
    return table


def _names(index: Index) -> list[str | None]:
    """The names of its columns; None for an expression."""
    return [each.name if isinstance(each, Column) else None for each in index.expressions]
