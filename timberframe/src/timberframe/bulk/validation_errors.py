"""Turns one of Pydantic's validation errors into a message about a file rather than about types."""

import re
from collections.abc import Mapping
from typing import Any

from timberframe.schemas.validation_errors import message_of

_MEANINGS = {
    "missing": "is missing",
    "extra_forbidden": "is unknown",
    "too_long": "must have at most {max_length} items",
    "too_short": "must have at least {min_length} items",
    "string_type": "must be text",
    "string_unicode": "must be valid Unicode, without half of a surrogate pair",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a smaller number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "list_type": "must be a list",
    "dict_type": "must be an object",
}
_SUBJECT = re.compile("(?:Input|String|List|Value|Decimal input) should ")


def message_in_file(error: Mapping[str, Any]) -> str:
    if meaning := _MEANINGS.get(error["type"]):
        return meaning.format(**error.get("ctx", {}))
    return _SUBJECT.sub("must ", message_of(error), count=1)
