"""What one text of JSON may hold: enough for anybody, and never what keeps the loop for long."""

import json
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Any

import pytest
from pydantic import Field, TypeAdapter, ValidationError

from timberframe.security import strict_json
from timberframe.security.strict_json import MAX_DIGITS, MAX_NAMES, MAX_VALUES


def names(count: int) -> str:
    return json.dumps({f"n{n}": n for n in range(count)})


def numbers(count: int) -> str:
    return json.dumps([1] * (count - 1))  # the bracket counts too


def objects(count: int) -> str:
    return json.dumps([{"a": "b"}] * (count // 2))


def strings(count: int) -> str:
    return json.dumps(['"quoted", [\\] {'] * (count - 1))


def digits(count: int) -> str:
    return "9" * count


AT_MOST: list[tuple[Callable[[int], str], int]] = [
    *((names, MAX_NAMES), (numbers, MAX_VALUES), (objects, MAX_VALUES), (strings, MAX_VALUES)),
    (digits, MAX_DIGITS),
]


@pytest.mark.parametrize(("text_of", "most"), AT_MOST)
def test_as_much_as_may_be_is_read_and_more_is_refused(
    text_of: Callable[[int], str], most: int
) -> None:
    assert strict_json.loads(text_of(most)) == json.loads(text_of(most))
    with pytest.raises(json.JSONDecodeError, match="ore than"):
        strict_json.loads(text_of(most + 2))


def test_what_stands_in_strings_is_no_value() -> None:
    text = '[1, 2, {\\"' * MAX_VALUES
    for value in (text, f'"{text}"', "\\" * 11 + text, text + "\\" * 10):
        body = {"description": value, "name": [value]}
        assert strict_json.loads(json.dumps(body)) == body


def test_values_are_counted_though_the_text_is_no_json() -> None:
    for text in ("[" * MAX_VALUES * 2, '"",' * MAX_VALUES * 5, "[0" + ",0" * MAX_VALUES + ',\\"'):
        with pytest.raises(json.JSONDecodeError, match="More than 10,000 values"):
            strict_json.loads(text)


def test_too_much_is_refused_before_it_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: with the bound taken away the same text is parsed, value for value."""
    text = "[" + '{"a":1},' * MAX_VALUES + "0]"
    parsed = 0
    unique = strict_json._unique

    def counted(pairs: list[tuple[str, object]]) -> dict[str, object]:
        nonlocal parsed
        parsed += 1
        return unique(pairs)

    monkeypatch.setattr(strict_json, "_unique", counted)
    with pytest.raises(json.JSONDecodeError, match="More than"):
        strict_json.loads(text)
    assert parsed == 0
    monkeypatch.setattr(strict_json, "MAX_VALUES", 10**9)
    strict_json.loads(text)
    assert parsed == MAX_VALUES


@pytest.mark.parametrize("sign", ["", "-"])
def test_number_next_to_zero_is_neither_zero_nor_costly(sign: str) -> None:
    for text in (
        "1e-400",
        "1e-99999999999",
        "1.5E-1000000",
        f"0.{'0' * 400}1",
        f"{'9' * 999}e-2000",
    ):
        number = strict_json.loads(sign + text)
        assert number == Decimal(f"{sign}1e-400"), text
    for text in ("0.0", "0e-99999999999", "0.00E5", "5e-324", "1e-323"):
        number = strict_json.loads(sign + text)
        assert (type(number), number) == (float, float(sign + text)), text


def test_number_next_to_zero_is_refused_at_once_by_any_integer_field() -> None:
    """The control: as the Decimal that its text says, the same number costs much."""
    plain = TypeAdapter[int](Annotated[int, Field(strict=False)])  # without a check of ours
    text = "1e-1000000"
    assert cost_of_refusing(plain, strict_json.loads(text)) < 0.01
    assert cost_of_refusing(plain, Decimal(text)) > 0.03


def cost_of_refusing(field: TypeAdapter[int], value: Any) -> float:
    """In seconds of the CPU."""
    before = time.process_time()
    with pytest.raises(ValidationError):
        field.validate_python(value)
    return time.process_time() - before
