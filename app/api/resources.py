"""What the routes of a resource ask for, made from its crud: the row in the path, a list."""

import json
import re
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Depends, Path, Request
from fastapi.exceptions import RequestValidationError
from pydantic import (
    AfterValidator,
    Field,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
    create_model,
)

from app.api.representation import check_precondition
from app.core.errors import InvalidInput, NotFound, NotPermitted
from app.crud.base import CRUDBase
from app.crud.policy import Principal
from app.crud.reading import Stored
from app.db.base import Base, SoftDeletable, Versioned
from app.dependencies import (
    SAFE_METHODS,
    CurrentUser,
    DbSession,
    OptionalUser,
    has_kept_answer,
)
from app.schemas.base import Moment
from app.schemas.bulk import ExportParams
from app.schemas.page import REPEATABLE, CommonQueryParams, Pagination, Sortable

MAX_SORT_LENGTH = 200
# Each combination is a statement of its own, which is compiled and kept.
MAX_SORT_KEYS = 5
MAX_FILTERS = 20

ModelT = TypeVar("ModelT", bound=Base)
ParamsT = TypeVar("ParamsT", bound=Sortable)
Crud = CRUDBase[ModelT, Any, Any]


def readable(crud: Crud[ModelT]) -> Callable[..., Awaitable[Stored[ModelT]]]:
    """The row in the path, if the caller may read it; else it does not exist for him."""

    async def get_readable(
        id: Annotated[int, _path_parameter(crud)], request: Request, viewer: OptionalUser
    ) -> Stored[ModelT]:
        row = await crud.read(request.app.state.database, id, viewer=viewer)
        if row is None:
            raise NotFound(crud.model.__name__)
        return row

    return get_readable


def creator_of(crud: Crud[Any]) -> Callable[..., Awaitable[Principal]]:
    """The caller, if there are rows that they may create: 401 and 403 before the body is looked at.

    The first that a route asks for, before the database: no kept answer is given without the right.
    """

    async def get_creator(viewer: CurrentUser) -> Principal:
        crud.check_creator(viewer)
        return viewer

    return get_creator


def writable(crud: Crud[ModelT], *, with_deleted: bool = False) -> Callable[..., Awaitable[ModelT]]:
    """The row in the path, locked, if the caller may write it and changes the state he has seen.

    The caller is asked for first: 401 before 404.
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
            # Of a retry only the right matters: the row may have been deleted since.
            with_deleted=with_deleted or has_kept_answer(request),
            is_locked=request.method not in SAFE_METHODS,
        )
        if row is None:
            if await crud.get(db, id, viewer=current_user):
                raise NotPermitted
            raise NotFound(crud.model.__name__)
        if isinstance(row, Versioned):
            check_precondition(request, row)
        _drop_what_stays(request, crud, row)
        return row

    return get_writable


def unchanged(crud: Crud[Any], get_row: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    """What `get_row` gives, if the caller changes the state he has seen."""

    async def get_unchanged(request: Request, row: Annotated[Any, Depends(get_row)]) -> Any:
        check_precondition(request, row)
        _drop_what_stays(request, crud, row)
        return row

    return get_unchanged


def _drop_what_stays(request: Request, crud: Crud[Any], row: Base) -> None:
    """Take out of a PUT's body the members that say what the row says already.

    So all that GET gave can be sent back, what cannot be changed included; it is refused by name if
    it differs. The body is looked at after this, so that nothing that stays has to be valid.
    """
    sent = getattr(request.state, "sent", None) if request.method == "PUT" else None
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
    """Many clients write `+00:00` where GET wrote `Z`, or their own time zone."""
    try:
        return _INSTANT.validate_python(sent) == shown
    except ValidationError:
        return False


_INSTANT = TypeAdapter[datetime](Moment)


def _is_same_json(sent: Any, shown: Any) -> bool:
    """Numbers by value: clients that have floats alone write 26.0 for 26.

    All else as JSON, because to Python 1 and true are equal. What was sent may also be half a
    character, which has no UTF-8, or a Decimal, which is equal to nothing that is shown.
    """
    if type(sent) in _NUMBERS and type(shown) in _NUMBERS:
        return bool(sent == shown)
    return json.dumps(sent, default=repr) == json.dumps(shown)


_NUMBERS = (int, float)


_NO_FILTERS = CommonQueryParams.model_fields.keys() | ExportParams.model_fields.keys()


class ListParams(Generic[ParamsT]):
    """Query parameters of a list, as a dependency; `model` says which and of what types."""

    def __init__(self, model: type[ParamsT]) -> None:
        self.model = model
        self.repeatable = {
            name for name, field in model.model_fields.items() if REPEATABLE in field.metadata
        }
        self.filters = model.model_fields.keys() - _NO_FILTERS

    async def __call__(self, request: Request) -> ParamsT:
        """Read here, because FastAPI asks for each of them in turn, whether it was sent or not."""
        sent: dict[str, Any] = {}
        for name, value in request.query_params.multi_items():
            if name in self.repeatable:
                sent.setdefault(name, []).append(value)
            elif name in sent:
                known = name if name in self.model.model_fields else "?"
                raise InvalidInput.at("query", known, msg="must be sent only once")
            else:
                sent[name] = value
        filters = [name for name in sent if name in self.filters]
        if len(filters) > MAX_FILTERS:
            msg = f"is one filter too many: there may be {MAX_FILTERS}"
            raise InvalidInput.at("query", filters[MAX_FILTERS], msg=msg)
        try:
            return self.model.model_validate(sent)
        except ValidationError as invalid:
            errors = [error | {"loc": ("query", *error["loc"])} for error in invalid.errors()]
            raise RequestValidationError(errors) from None


def listed(crud: Crud[Any]) -> ListParams[Pagination]:
    """The parameters of a list: those of all, and what the crud declares."""
    fields = _declared_params(crud)
    if issubclass(crud.model, SoftDeletable):
        fields["is_deleted"] = (bool, Field(False, description="Those that you may restore"))
    base: type[Pagination] = CommonQueryParams if crud.search else Pagination
    return ListParams(create_model(f"{crud.model.__name__}Params", __base__=base, **fields))


def exported(crud: Crud[Any]) -> ListParams[ExportParams]:
    """The parameters of a list that say which rows and in which order, not which page of them."""
    fields = _declared_params(crud)
    if crud.search:
        q = CommonQueryParams.model_fields["q"]
        fields["q"] = (q.annotation, q)
    name = f"{crud.model.__name__}ExportParams"
    return ListParams(create_model(name, __base__=ExportParams, **fields))


def _declared_params(crud: Crud[Any]) -> dict[str, Any]:
    """Filters with an example from the field that they are about, as the resource shows it."""
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
            raise ValueError(f"must be no more than {MAX_SORT_KEYS} fields")
        if not crud.sort_keys.keys() >= set(keys):
            raise ValueError(f"must be some of {', '.join(names)}; a - before one turns it round")
        return value

    key = f"-?({'|'.join(names)})"
    documented = {
        "type": "string",
        "maxLength": MAX_SORT_LENGTH,
        "pattern": f"^{key}(,{key}){{0,{MAX_SORT_KEYS - 1}}}$",
        "description": "Fields with commas between them; a `-` before one turns it round",
        "examples": [f"-{names[0]}"],
    }
    return Annotated[
        str,
        Field(max_length=MAX_SORT_LENGTH),
        AfterValidator(check),
        WithJsonSchema(documented),
    ]


def _path_parameter(crud: Crud[Any]) -> Any:
    """`stock_movement_id` of `StockMovement`."""
    words = re.sub(r"(?<!^)(?=[A-Z])", " ", crud.model.__name__).lower()
    name = f"{words.replace(' ', '_')}_id"
    return Path(alias=name, description=f"The `id` of the {words}", examples=[1])
