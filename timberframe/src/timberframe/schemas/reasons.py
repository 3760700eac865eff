"""Why a value is refused: messages say what would be accepted, and never repeat what was sent."""

from collections.abc import Mapping
from typing import Any

from timberframe.schemas.fields import meaning_of


def reason_of(error: Mapping[str, Any]) -> str:
    """The reason for one of Pydantic's errors, which must include its `ctx`."""
    if error["type"] == "string_pattern_mismatch":
        return meaning_of(error["ctx"]["pattern"]) or str(error["msg"])
    if error["type"] == "json_invalid":
        return str(error["ctx"]["error"])
    return str(error["msg"]).removeprefix("Value error, ")
