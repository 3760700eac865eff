"""Why a value of a file is refused, in words about the file, and none about our own types."""

import re
from collections.abc import Mapping
from typing import Any

from app.schemas.reasons import reason_of

_MEANINGS = {
    "missing": "is missing",
    "extra_forbidden": "is unknown",
    "too_long": "must have at most {max_length} items",
    "too_short": "must have at least {min_length} items",
    "int_from_float": "must be a whole number",
}
_SUBJECT = re.compile("(?:Input|String|List|Value|Decimal input) should ")


def reason_in_file(error: Mapping[str, Any]) -> str:
    """Of one of Pydantic's errors."""
    if meaning := _MEANINGS.get(error["type"]):
        return meaning.format(**error.get("ctx", {}))
    return _SUBJECT.sub("must ", reason_of(error), count=1)
