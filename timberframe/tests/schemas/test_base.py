"""Field types that several schemas share: what they take, and as what."""

from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError, create_model

from timberframe.schemas.fields import Day, Document, Id, Moment, Number, Uuid, Whole
from timberframe.schemas.models import InputModel


def model_of(type_: Any) -> Any:
    return create_model("Sent", __base__=InputModel, field=(type_, ...))


TAKEN: list[tuple[Any, Any, str]] = [
    (Number, "1.5", '"1.500000"'),
    (Number, "-0", '"0.000000"'),
    (Number, 1.5, '"1.500000"'),
    (Number, 0.1, '"0.100000"'),
    (Number, -7, '"-7.000000"'),
    (Number, "999999999.999999", '"999999999.999999"'),
    (Number, 999999999.999999, '"999999999.999999"'),
    (Day, "0002-01-01", '"0002-01-01"'),
    (Day, "2024-02-29", '"2024-02-29"'),
    (Day, "9998-12-31", '"9998-12-31"'),
    (Moment, "2026-11-24T12:00:00Z", '"2026-11-24T12:00:00Z"'),
    (Moment, "2026-11-24t12:00:00.5+02:00", '"2026-11-24T10:00:00.500000Z"'),
    (Moment, "2026-11-24T00:00:00-14:00", '"2026-11-24T14:00:00Z"'),
    (Uuid, "8E03978E-40d5-43dd-bc93-6894a57f9324", '"8e03978e-40d5-43dd-bc93-6894a57f9324"'),
    (Whole, 5.0, "5"),
    (Whole, -(2**53) + 1, "-9007199254740991"),
    (Id, 2**53 - 1, "9007199254740991"),
    (Document, {"a": [1, None]}, '{"a":[1,null]}'),
    (Document, [], "[]"),
    (Document, {"a": [0.0, -0.0, 5e-324]}, '{"a":[0.0,-0.0,5e-324]}'),
]


@pytest.mark.parametrize(("type_", "sent", "shown"), TAKEN)
def test_value_is_taken(type_: Any, sent: object, shown: str) -> None:
    assert model_of(type_)(field=sent).model_dump_json() == f'{{"field":{shown}}}'


def test_array_in_the_schema_of_a_document_has_items() -> None:
    """Generators of clients drop operations that have an array without them."""
    for mode in ("validation", "serialization"):
        schema = model_of(Document).model_json_schema(mode=mode)
        options = {each["type"]: each for each in schema["properties"]["field"]["anyOf"]}
        assert options == {
            "object": {"type": "object"},
            "array": {"type": "array", "items": {}},
        }


def nested(depth: int) -> list[Any]:
    document: list[Any] = []
    for _ in range(depth - 1):
        document = [document]
    return document


REFUSED: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "number": (Number, ("٣", "1_0", " 1", "1.", ".5", "1e3", "Infinity", float("nan"), 1e9, None)),
    "day": (
        Day,
        (
            "٢٠٢٦-11-24",
            "2026-11-24 ",
            "2026-W48-2",
            "10000-01-01",
            "0001-01-01",
            "9999-12-31",
            "2025-02-29",
            None,
        ),
    ),
    "moment": (Moment, ("2026-11-24T25:00:00Z", "2026-11-24T12:00:00", "9999-12-31T23:00:00Z")),
    "uuid": (Uuid, ("urn:uuid:8e03978e-40d5-43dd-bc93-6894a57f9324", "8e03978e40d543ddbc93", b"")),
    "whole": (Whole, (float("inf"), float("nan"), "5", True, 2**53, Decimal(5))),
    "id": (Id, (0, -1, 2**53, "1", True, Decimal(5))),
    "document": (Document, ("{}", None, 1, [float("nan")], [float("inf")], ["\ud800"])),
    "deep document": (Document, (nested(17), nested(100_000))),
    "long document": (Document, (["x" * 10_000], ["é" * 5_000], {"x" * 10_000: 1})),
}


@pytest.mark.parametrize("name", REFUSED)
def test_value_is_refused(name: str) -> None:
    type_, values = REFUSED[name]
    model = model_of(type_)
    for value in values:
        with pytest.raises(ValidationError):
            model(field=value)


def test_bounds_of_a_document_are_no_narrower() -> None:
    """The control."""
    for document in (nested(16), ["x" * 9_996]):
        assert model_of(Document)(field=document).model_dump() == {"field": document}


@pytest.mark.parametrize("type_", [Whole, Id])
def test_decimal_is_refused_before_it_is_read_as_an_integer(type_: Any) -> None:
    """To read this one takes seconds, and another message would say that it was read."""
    with pytest.raises(ValidationError, match="must be a whole number"):
        model_of(type_)(field=Decimal("1e-5000000"))
