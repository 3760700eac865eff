"""Turns one of Pydantic's validation errors into the message that a client gets.

Messages say what would be accepted, and never repeat what was sent; those of our own types stand
beside the types, in `schemas/fields.py`.
"""

from collections.abc import Mapping
from typing import Any

from timberframe.schemas.fields import meaning_of


def message_of(error: Mapping[str, Any]) -> str:
    """The message of an error, which must include its `ctx`."""
    if error["type"] == "string_pattern_mismatch":
        return meaning_of(error["ctx"]["pattern"]) or str(error["msg"])
    if error["type"] == "json_invalid":
        return str(error["ctx"]["error"])
    return str(error["msg"]).removeprefix("Value error, ")
