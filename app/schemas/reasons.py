"""Why a value is refused, in words that say what would be taken, and never what was sent."""

from collections.abc import Mapping
from typing import Any

from app.schemas.base import CHOICE, LINE, SLUG, TEXT, USERNAME
from app.schemas.product import SKU

# A pattern is for machines, and stands in OpenAPI.
_MEANINGS = {
    LINE: "must be one line of text, neither blank nor with control characters",
    TEXT: "must be text without control characters",
    CHOICE: "must be texts with commas between them, none of them empty",
    SKU: "must be 1 to 64 letters, digits and ._/- after the first",
    f"^{USERNAME}$": "must be 3 to 50 letters, digits, dots, hyphens or underscores",
    f"^{SLUG}$": "must be lower-case letters and digits, as words with hyphens between them",
}


def reason_of(error: Mapping[str, Any]) -> str:
    """Of one of Pydantic's errors, with its context."""
    if error["type"] == "string_pattern_mismatch":
        return _MEANINGS.get(error["ctx"]["pattern"], str(error["msg"]))
    if error["type"] == "json_invalid":
        return str(error["ctx"]["error"])
    return str(error["msg"]).removeprefix("Value error, ")
