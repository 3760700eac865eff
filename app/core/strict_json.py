"""JSON as RFC 8259 has it, to the letter: two parsers must not see two things in one text.

What a text may hold is bounded before it is parsed and checked, or one text of a megabyte would
keep everybody else waiting for seconds.
"""

import json
from decimal import Decimal
from typing import Any, NoReturn

MAX_VALUES = 10_000  # of one text, as many as its commas and opening brackets
MAX_NAMES = 1_000  # of one object
MAX_DIGITS = 400  # of a whole number: reading one takes the square of its length
# The check of each field refuses it, with the field's name. It stands for smaller numbers too:
# Pydantic calculates 10**n to read the Decimal 1e-n as an integer.
_NEARLY_ZERO = Decimal("1e-400")


def loads(text: str) -> Any:
    """Raise `JSONDecodeError` for NaN or Infinity too, a name twice in one object, and too much.

    A number that no float can tell from zero, such as 1e-400, is the `Decimal` 1e-400 or -1e-400.
    """
    if len(text) > MAX_VALUES and _holds_too_much(text):
        refuse(f"More than {MAX_VALUES:,} values")
    try:
        return json.loads(
            text,
            object_pairs_hook=_unique,
            parse_int=_whole_number,
            parse_float=_parse_float,
            parse_constant=_refuse_constant,
        )
    except RecursionError:
        refuse("Nested too deeply")


def refuse(reason: str) -> NoReturn:
    # The one exception that FastAPI turns into a validation error.
    raise json.JSONDecodeError(reason, "", 0)


def _holds_too_much(text: str) -> bool:
    """Whether more than `MAX_VALUES` commas and brackets stand outside of strings."""
    if text.count(",") + text.count("[") + text.count("{") <= MAX_VALUES:
        return False
    plain = text.replace("\\\\", "").replace('\\"', "")
    # A value has two strings at most, its name and itself. To split at more quotes takes too long.
    if plain.count('"') > 4 * MAX_VALUES:
        return True
    outside = "".join(plain.split('"')[::2])
    return outside.count(",") + outside.count("[") + outside.count("{") > MAX_VALUES


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > MAX_NAMES:
        refuse(f"An object with more than {MAX_NAMES:,} names")
    unique = dict(pairs)
    if len(unique) < len(pairs):
        refuse("A name stands twice in one object")
    return unique


def _whole_number(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        refuse(f"A number with more than {MAX_DIGITS} digits")
    return int(digits)


def _parse_float(text: str) -> float | Decimal:
    number = float(text)
    if number == 0 and text.lstrip("-0.")[:1] not in ("", "e", "E"):
        return _NEARLY_ZERO.copy_sign(Decimal(number))  # a float's zero has a sign
    return number


def _refuse_constant(name: str) -> NoReturn:
    refuse(f"{name} is not JSON")
