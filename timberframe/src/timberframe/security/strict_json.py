"""Strict RFC 8259 JSON: no two parsers may read one text differently.

The number of values is limited before they are parsed and validated: otherwise one text of a
megabyte would keep everybody else waiting for seconds.
"""

import json
from decimal import Decimal
from typing import Any, NoReturn

MAX_VALUES = 10_000  # of one text, counted by its commas and opening brackets
MAX_NAMES = 1_000  # of one object
MAX_DIGITS = 400  # of an integer: parsing one takes quadratic time
# The validation of each field refuses it and names the field. Smaller numbers become this one,
# because Pydantic computes 10**n to read the Decimal 1e-n as an integer.
_NEARLY_ZERO = Decimal("1e-400")


def loads(text: str) -> Any:
    """Raise `JSONDecodeError` also for NaN or Infinity, duplicate names, and too many values.

    A number other than zero that underflows as a float becomes the `Decimal` 1e-400 or -1e-400.
    """
    if len(text) > MAX_VALUES and _exceeds_limits(text):
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


def _exceeds_limits(text: str) -> bool:
    """Whether more than `MAX_VALUES` commas and brackets are outside of strings."""
    if text.count(",") + text.count("[") + text.count("{") <= MAX_VALUES:
        return False
    plain = text.replace("\\\\", "").replace('\\"', "")
    # A value has at most two strings, its name and itself. Splitting at more quotes is too slow.
    if plain.count('"') > 4 * MAX_VALUES:
        return True
    outside = "".join(plain.split('"')[::2])
    return outside.count(",") + outside.count("[") + outside.count("{") > MAX_VALUES


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > MAX_NAMES:
        refuse(f"An object with more than {MAX_NAMES:,} names")
    unique = dict(pairs)
    if len(unique) < len(pairs):
        refuse("A name appears twice in one object")
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
