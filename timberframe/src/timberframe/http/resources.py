"""Dependencies made from a resource's crud: the row in the path, the parameters of a list."""

import json
import re
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar

from fastapi import Depends, Path, Request
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from pydantic import (
    AfterValidator,
    Field,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
    create_model,
)

from timberframe.crud.base import CRUDBase
from timberframe.crud.policy import Principal
from timberframe.crud.results import Stored
from timberframe.data.base import Base, SoftDeletable, Versioned
from timberframe.errors import InvalidInput, NotFound, NotPermitted
from timberframe.http.dependencies import (
    SAFE_METHODS,
    CurrentUser,
    DbSession,
    OptionalUser,
    database_of,
)
from timberframe.http.exchange import exchange_of
from timberframe.http.idempotency import has_kept_answer
from timberframe.http.preconditions import check_precondition
from timberframe.schemas.bulk import ExportParams
from timberframe.schemas.fields import Moment
from timberframe.schemas.page import MAX_LIMIT, REPEATABLE, CommonQueryParams, Filtered, Pagination

MAX_SORT_LENGTH = 200
# Each combination is a statement of its own, which is compiled and cached.
MAX_SORT_KEYS = 5

ModelT = TypeVar("ModelT", bound=Base)
ParamsT = TypeVar("ParamsT", bound=Filtered)
Crud = CRUDBase[ModelT, Any, Any]


class Right(NamedTuple):
    """What a dependency lets the caller do with the rows of a crud."""

    action: Literal["list", "read", "write", "create"]
    crud: Crud[Any]


_RIGHTS: dict[Any, Right] = {}  # by the dependency


def rights_of(dependant: Dependant) -> Iterator[Right]:
    """The rights that a route depends on, directly or indirectly."""
    if right := _RIGHTS.get(dependant.call):
        yield right
    for each in dependant.dependencies:
        yield from rights_of(each)


def readable(crud: Crud[ModelT]) -> Callable[..., Awaitable[Stored[ModelT]]]:
    """The row in the path, if the caller may read it; otherwise 404, as if it did not exist."""

    async def get_readable(
        id: Annotated[int, _path_parameter(crud)], request: Request, viewer: OptionalUser
    ) -> Stored[ModelT]:
        row = await crud.read(database_of(request), id, viewer=viewer)
        if row is None:
            raise NotFound(crud.model.__name__)
        return row

    _RIGHTS[get_readable] = Right("read", crud)
    return get_readable


def readable_model(crud: Crud[ModelT]) -> Callable[..., Awaitable[ModelT]]:
    """The same row as a model of the request's `DbSession`, and not locked."""

    async def get_readable_model(
        viewer: OptionalUser, id: Annotated[int, _path_parameter(crud)], db: DbSession
    ) -> ModelT:
        row = await crud.get(db, id, viewer=viewer)
        if row is None:
            raise NotFound(crud.model.__name__)
        return row

    _RIGHTS[get_readable_model] = Right("read", crud)
    return get_readable_model


def creator_of(crud: Crud[Any]) -> Callable[..., Awaitable[Principal]]:
    """The caller, if there are rows that they may create: 401 and 403 come before body errors.

    A route must ask for this before the database, so that nobody without the right gets a kept
    answer.
    """

    async def get_creator(viewer: CurrentUser) -> Principal:
        crud.check_creator(viewer)
        return viewer

    _RIGHTS[get_creator] = Right("create", crud)
    return get_creator


def writable(crud: Crud[ModelT], *, with_deleted: bool = False) -> Callable[..., Awaitable[ModelT]]:
    """The row in the path, locked, if the caller may write it and their preconditions match.

    The caller is checked first: 401 before 404.
    """

    async def get_writable(
        current_user: CurrentUser,
        id: Annotated[int, _path_parameter(crud)],
        db: DbSession,
        request: Request,
    ) -> ModelT:
        row = await crud.get_writable(
            db,
            id,
            viewer=current_user,
            # For a retry only the permission matters: the row may have been deleted since.
            with_deleted=with_deleted or has_kept_answer(request),
            is_locked=not (request.method in SAFE_METHODS or has_kept_answer(request)),
        )
        if row is None:
            if await crud.get(db, id, viewer=current_user):
                raise NotPermitted
            raise NotFound(crud.model.__name__)
        if isinstance(row, Versioned):
            check_precondition(request, row)
        _drop_unchanged(request, crud, row)
        return row

    _RIGHTS[get_writable] = Right("write", crud)
    return get_writable


def unchanged(crud: Crud[Any], get_row: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    """The row that `get_row` returns, if the caller's preconditions match."""

    async def get_unchanged(request: Request, row: Annotated[Any, Depends(get_row)]) -> Any:
        check_precondition(request, row)
        _drop_unchanged(request, crud, row)
        return row

    return get_unchanged


def _drop_unchanged(request: Request, crud: Crud[Any], row: Base) -> None:
    """Remove from a PUT's body the members that equal the current values of the row.

    So a client can send back all that GET returned, read-only fields included; one that differs is
    refused by name. The body is validated after this, so unchanged values need not be valid.
    """
    sent = exchange_of(request).sent if request.method == "PUT" else None
    if not isinstance(sent, dict):
        return
    resource = crud.schema.model_validate(row)
    shown = resource.model_dump(mode="json")
    for name in sent.keys() & shown.keys():
        value = getattr(resource, name)
        if isinstance(value, datetime):
            is_same = _is_instant(sent[name], value)
        else:
            is_same = _is_same_json(sent[name], shown[name])
        if is_same:
            del sent[name]


def _is_instant(sent: Any, shown: datetime) -> bool:
    """Compare as instants: many clients write `+00:00` or their own time zone for GET's `Z`."""
    try:
        return _INSTANT.validate_python(sent) == shown
    except ValidationError:
        return False


_INSTANT = TypeAdapter[datetime](Moment)


def _is_same_json(sent: Any, shown: Any) -> bool:
    """Compare numbers by value: clients that only have floats write 26.0 for 26.

    Compare all else as JSON, because 1 and True are equal in Python. The client may also have sent
    a lone surrogate, which has no UTF-8, or a Decimal, which equals no value that GET shows.
    """
    if type(sent) in _NUMBERS and type(shown) in _NUMBERS:
        return bool(sent == shown)
    return json.dumps(sent, default=repr) == json.dumps(shown)


_NUMBERS = (int, float)


class ListParams(Generic[ParamsT]):
    """Query parameters of a list, as a dependency; `model` says which and of what types."""

    def __init__(self, model: type[ParamsT]) -> None:
        self.model = model
        self.repeatable = {
            name for name, field in model.model_fields.items() if REPEATABLE in field.metadata
        }

    async def __call__(self, request: Request) -> ParamsT:
        """Parse them all here: FastAPI would look for each one, whether it was sent or not."""
        sent: dict[str, Any] = {}
        for name, value in request.query_params.multi_items():
            if name in self.repeatable:
                sent.setdefault(name, []).append(value)
            elif name in sent:
                known = name if name in self.model.model_fields else "?"
                raise InvalidInput.at("query", known, msg="must be sent only once")
            else:
                sent[name] = value
        try:
            return self.model.model_validate(sent)
        except ValidationError as invalid:
            errors = [error | {"loc": ("query", *error["loc"])} for error in invalid.errors()]
            raise RequestValidationError(errors) from None


def listed(crud: Crud[Any]) -> ListParams[Pagination]:
    """The parameters of a list: those that all lists have, and those that the crud declares."""
    fields = _declared_params(crud)
    if issubclass(crud.model, SoftDeletable):
        fields["is_deleted"] = (
            bool,
            Field(False, description="`true`: deleted rows that you may restore"),
        )
    base: type[Pagination] = CommonQueryParams if crud.search else Pagination
    if crud.max_limit != MAX_LIMIT:
        about = Pagination.model_fields["limit"].description
        fields["limit"] = (int, Field(crud.max_limit, ge=1, le=crud.max_limit, description=about))
    return _list_of(crud, create_model(f"{crud.model.__name__}Params", __base__=base, **fields))


def exported(crud: Crud[Any]) -> ListParams[ExportParams]:
    """The parameters of a list that select and sort its rows, without those for pages."""
    fields = _declared_params(crud)
    if crud.search:
        q = CommonQueryParams.model_fields["q"]
        fields["q"] = (q.annotation, q)
    name = f"{crud.model.__name__}ExportParams"
    return _list_of(crud, create_model(name, __base__=ExportParams, **fields))


def followed_params(crud: Crud[Any]) -> ListParams[Filtered]:
    """The filters of a list, for a stream of its rows' events."""
    fields = _declared_params(crud)
    del fields["sort"]
    name = f"{crud.model.__name__}EventParams"
    return _list_of(crud, create_model(name, __base__=Filtered, **fields))


def _list_of(crud: Crud[Any], model: type[ParamsT]) -> ListParams[ParamsT]:
    params = ListParams(model)
    _RIGHTS[params] = Right("list", crud)
    return params


def _declared_params(crud: Crud[Any]) -> dict[str, Any]:
    """The crud's filters, with examples from the fields of its schema, and its orders."""
    shown = crud.schema.model_fields
    fields: dict[str, Any] = {}
    for each in crud.declared_filters:
        about = shown.get(each.parameter.partition("__")[0])
        value = Field(None, description=each.meaning, examples=about and about.examples)
        fields[each.parameter] = (each.value_type, value)
    return fields | {"sort": (_sort_type(crud), None)}


def _sort_type(crud: Crud[Any]) -> Any:
    names = [name for name in crud.sort_keys if not name.startswith("-")]

    def check(value: str) -> str:
        keys = value.split(",")
        if len(keys) > MAX_SORT_KEYS:
            raise ValueError(f"must have at most {MAX_SORT_KEYS} fields")
        if not crud.sort_keys.keys() >= set(keys):
            raise ValueError(f"must be some of {', '.join(names)}; a - before one reverses it")
        return value

    key = f"-?({'|'.join(names)})"
    documented = {
        "type": "string",
        "maxLength": MAX_SORT_LENGTH,
        "pattern": f"^{key}(,{key}){{0,{MAX_SORT_KEYS - 1}}}$",
        "description": "Fields separated by commas; a `-` before one reverses its order",
        "examples": [f"-{names[0]}"],
    }
    return Annotated[
        str,
        Field(max_length=MAX_SORT_LENGTH),
        AfterValidator(check),
        WithJsonSchema(documented),
    ]


def _path_parameter(crud: Crud[Any]) -> Any:
    """`stock_movement_id` for `StockMovement`."""
    words = re.sub(r"(?<!^)(?=[A-Z])", " ", crud.model.__name__).lower()
    name = f"{words.replace(' ', '_')}_id"
    return Path(alias=name, description=f"The `id` of the {words}", examples=[1])
