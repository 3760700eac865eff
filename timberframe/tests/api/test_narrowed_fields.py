"""A type of `schemas.fields` is narrowed with `Field`: input obeys it, and the document says so."""

from decimal import Decimal
from typing import Annotated, Any, get_args, get_origin

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from pydantic import MISSING, Field, ValidationError, create_model

from specimen.config import settings
from specimen.crud import user_crud
from timberframe.app import create_app
from timberframe.routes import Router
from timberframe.schemas import InputModel, fields

# The constraint, a value that it still takes, and one that only the type itself takes.
NARROWED: dict[str, tuple[tuple[dict[str, Any], Any, Any], ...]] = {
    "Whole": (
        ({"ge": 0}, 0, -1),
        ({"gt": 0}, 1, 0),
        ({"le": 9}, 9, 10),
        ({"lt": 9}, 8, 9),
        ({"ge": -(2**60), "le": 9}, -(2**53) + 1, 10),
    ),
    "Id": (({"ge": 3}, 3, 2), ({"le": 9}, 9, 10)),
    "QueryId": (({"ge": 3}, 3, 2), ({"le": 9}, 9, 10)),
    "Ids": (({"max_length": 2}, [1, 2], [1, 2, 3]), ({"min_length": 1}, [1], [])),
    "RowId": (({"ge": 3}, 3, 2), ({"le": 9}, 9, 10)),
    "Number": (({"ge": 0}, 0, -1), ({"gt": Decimal("-0.5")}, 0, -0.5), ({"lt": 9}, 8.5, 9)),
    "Money": (({"ge": Decimal("0.50")}, 0.5, 0.25), ({"le": 100}, 100, 100.5)),
    "Email": (({"max_length": 9}, "a@home.at", "alice@home.at"),),
    "Slug": (({"max_length": 3}, "a-b", "a-bc"), ({"min_length": 2}, "ab", "a")),
    "Username": (({"max_length": 5}, "alice", "robert"),),
    "Password": (({"min_length": 12}, "Correct-Horse-7", "Correct-7"),),
    "Line": (({"max_length": 3}, "abc", "abcd"), ({"min_length": 2}, "ab", "a")),
    "Choice": (({"max_length": 3}, "abc", "abcd"),),
    "Text": (({"max_length": 3}, "abc", "abcd"), ({"min_length": 1}, "a", "")),
}
CASES = [(name, *each) for name, some in NARROWED.items() for each in some]


def documented(model: Any) -> Any:
    router = Router()

    @router.post("/")
    async def take(sent: model) -> None:
        """Take it."""

    app = create_app(settings, accounts=user_crud, routers={"/narrowed": router})
    return app.openapi()["components"]["schemas"]["Sent"]["properties"]


def takes(model: Any, sent: dict[str, Any]) -> bool:
    try:
        model(**sent)
    except ValidationError:
        return False
    return True


def test_every_number_text_and_list_is_here() -> None:
    public = {
        name
        for name, kind in vars(fields).items()
        if get_origin(kind) is Annotated
        and (get_origin(get_args(kind)[0]) or get_args(kind)[0]) in (int, Decimal, str, list)
    }
    assert public == NARROWED.keys()


@pytest.mark.parametrize(("name", "constraint", "taken", "refused"), CASES)
def test_narrowed_field_is_documented_as_it_is_obeyed(
    name: str, constraint: dict[str, Any], taken: Any, refused: Any
) -> None:
    type_: Any = getattr(fields, name)
    narrow = Annotated[type_, Field(**constraint)]
    model: Any = create_model(
        "Sent",
        __base__=InputModel,
        field=(narrow | None, None),
        stated=(type_, Field(taken, **constraint)),
        optional=(type_ | None, Field(None, **constraint)),
        absent=(type_ | MISSING, Field(MISSING, **constraint)),
        ge=(list[narrow] | None, None),
        wide=(type_, taken),
    )
    document = Draft202012Validator({"properties": documented(model)})
    for value, is_taken in ((taken, True), (refused, False)):
        for field in ("field", "stated", "optional", "absent", "ge"):
            sent = {field: [value] if field == "ge" else value}
            assert takes(model, sent) is is_taken, field
            assert document.is_valid(sent) is is_taken, field
    assert takes(model, {"wide": refused}), "only the constraint refuses it"
    assert document.is_valid({"wide": refused})
