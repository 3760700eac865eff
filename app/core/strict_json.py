"""JSON as RFC 8259 has it, to the letter: two parsers must not see two things in one text."""

import json
from decimal import Decimal
from typing import Any, NoReturn


def loads(text: str) -> Any:
    """Raise `JSONDecodeError` for NaN or Infinity too, and for a name twice in one object.

    A number that no float can tell from zero, such as 1e-400, is a `Decimal`.
    """
    try:
        return json.loads(
            text,
            object_pairs_hook=_unique,
            parse_float=_parse_float,
            parse_constant=_refuse_constant,
        )
    except RecursionError:
        refuse("Nested too deeply")


def refuse(reason: str) -> NoReturn:
    # The one exception that FastAPI turns into a validation error.
    raise json.JSONDecodeError(reason, "", 0)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) < len(pairs):
        refuse("A name stands twice in one object")
    return unique


def _parse_float(text: str) -> float | Decimal:
    number = float(text)
    if number == 0 and text.lstrip("-0.")[:1] not in ("", "e", "E"):
        return Decimal(text)  # the field's own check refuses it, with the field's name
    return number


def _refuse_constant(name: str) -> NoReturn:
    refuse(f"{name} is not JSON")
