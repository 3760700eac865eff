"""JSON as RFC 8259 has it, to the letter: two parsers must not see two things in one text."""

import json
from typing import Any, NoReturn


def loads(text: str) -> Any:
    """Raise `JSONDecodeError` for NaN or Infinity too, and for a name twice in one object."""
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
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


def _refuse_constant(name: str) -> NoReturn:
    refuse(f"{name} is not JSON")
