"""Types for the fields of schemas: what they accept, and how they are documented."""

import json
import re
import unicodedata
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from email_validator import EmailNotValidError, validate_email
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    StringConstraints,
    WithJsonSchema,
)
from pydantic_core import core_schema

# No control characters, no line or paragraph separators, no bidirectional overrides: they hide
# text, split logs and mail headers, and PostgreSQL cannot store NUL.
_HIDDEN = r"\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069"
LINE = rf"^[^{_HIDDEN}]*[^\s{_HIDDEN}][^{_HIDDEN}]*$"
TEXT = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]*$"
CHOICE = rf"^[^,{_HIDDEN}]+$"
CENT = Decimal("0.01")
MAX_MONEY = Decimal("9999999999.99")
MILLIONTH = Decimal("0.000001")
MAX_NUMBER = Decimal("999999999.999999")  # what a JSON number carries exactly, RFC 8259 section 6
MAX_WHOLE = 2**53 - 1  # the same for whole numbers
MAX_IDS = 100
MAX_DOCUMENT_BYTES = 10_000
MAX_DOCUMENT_DEPTH = 16
_AMOUNT = r"[0-9]{1,10}(\.[0-9]{1,2})?"
_NUMBER = r"-?[0-9]{1,9}(\.[0-9]{1,6})?"
_DIGITS = r"-?[0-9]{1,100}(\.[0-9]{1,100})?"
_DAY = "(?!0001|9999)[0-9]{4}-[0-9]{2}-[0-9]{2}"
_MOMENT = rf"{_DAY}[Tt][0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}}"
_UUID = "-".join(f"[0-9A-Fa-f]{{{digits}}}" for digits in (8, 4, 4, 4, 12))
USERNAME = r"[A-Za-z0-9._-]{3,50}"
SLUG = "[a-z0-9]+(-[a-z0-9]+)*"
_BOUNDS = ("ge", "gt", "le", "lt", "multiple_of", "min_length", "max_length")

# What each pattern means in words, for error messages; OpenAPI has the pattern itself.
_MEANINGS: dict[str, str] = {}


def matching(pattern: str, meaning: str, **constraints: Any) -> StringConstraints:
    """A text that matches; otherwise the error says `meaning`, such as "must be two letters"."""
    _MEANINGS[pattern] = meaning
    return StringConstraints(pattern=pattern, **constraints)


def meaning_of(pattern: str) -> str | None:
    """The meaning that was given to `matching`, if any."""
    return _MEANINGS.get(pattern)


class Narrowable:
    """Annotations of a type that a field may narrow: `Annotated[Whole, Field(ge=0)]`.

    Pydantic puts the bounds of `stock: Whole = Field(ge=0)` first, where those of the type would
    replace them, and what `WithJsonSchema` says would replace both in the documentation.
    """

    def __init__(self, *annotations: Any) -> None:
        self._annotations = annotations

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        put_first: Any = handler(source)
        bounds = {name: put_first[name] for name in _BOUNDS if name in put_first}
        if bounds:
            return handler.generate_schema(Annotated[source, self, Field(**bounds)])
        return handler.generate_schema(Annotated[source, *self._annotations])


def refuse_text_and_booleans(value: object) -> object:
    # `strict_json` reads a number too close to zero for a float as a Decimal: it is not whole.
    if isinstance(value, (str, bool, Decimal)):
        raise ValueError("must be a whole number")
    return value


def canonical_email(value: str) -> str:
    """One spelling for each address: NFKC, lower case, and the domain in Unicode."""
    try:
        folded = unicodedata.normalize("NFKC", value).casefold()
        return validate_email(folded, check_deliverability=False).normalized.casefold()
    except EmailNotValidError:
        # The library's own message repeats what was sent.
        raise ValueError("is not a valid e-mail address") from None


def canonical_login(value: str) -> str:
    """The one name that an e-mail address or a username goes by, however it was typed."""
    try:
        return canonical_email(value)
    except ValueError:
        return value.casefold()


def check_password(value: str) -> str:
    for pattern, missing in (
        ("[A-Z]", "uppercase letter"),
        ("[a-z]", "lowercase letter"),
        (r"\d", "digit"),
    ):
        if not re.search(pattern, value):
            raise ValueError(f"Password must contain {missing}")
    return value


def parse_money(value: object) -> Decimal:
    """An exact amount from a JSON string or number: two decimals at most, never negative."""
    return _parse(value, _AMOUNT, "an amount such as 19.99", (Decimal(0), MAX_MONEY, CENT))


def parse_number(value: object) -> Decimal:
    """An exact number from a JSON string or number: six decimals at most."""
    return _parse(value, _NUMBER, "a number such as -1.5", (-MAX_NUMBER, MAX_NUMBER, MILLIONTH))


def _parse(
    value: object, pattern: str, meaning: str, bounds: tuple[Decimal, Decimal, Decimal]
) -> Decimal:
    if isinstance(value, str) and not re.fullmatch(pattern, value):
        if re.fullmatch(_DIGITS, value):
            _exact(value, *bounds)  # raises the more specific error
        raise ValueError(f"must be {meaning}")
    return _exact(value, *bounds)


def _exact(value: object, least: Decimal, most: Decimal, step: Decimal) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, (str, int, float, Decimal)):
        raise ValueError("must be a string or a number")
    # str() is the shortest spelling of a float: 0.1 means a tenth.
    number = Decimal(str(value))
    if not number.is_finite() or not least <= number <= most:
        raise ValueError(f"must be between {least} and {most}")
    exact = number.quantize(step)
    if exact != number:
        raise ValueError(f"must be a multiple of {step}")
    return exact + 0  # without the sign of -0


def check_day(value: object) -> object:
    """RFC 3339, without the first and the last year: asyncpg reads their ends as infinity."""
    if not isinstance(value, str) or not re.fullmatch(_DAY, value):
        raise ValueError("must be a date from 0002 to 9998, such as 2026-11-24")
    return value


def check_moment(value: object) -> object:
    """RFC 3339, and within the range of a database whatever the time zone."""
    if not isinstance(value, str) or not re.match(_MOMENT, value):
        raise ValueError("must be a time from 0002 to 9998, such as 2026-11-24T12:00:00Z")
    return value


def in_utc(value: datetime) -> datetime:
    """Convert to UTC, as stored times are read back, so that both look alike in answers."""
    return value.astimezone(UTC)


def check_uuid(value: object) -> object:
    if not isinstance(value, str) or not re.fullmatch(_UUID, value):
        raise ValueError("must be a UUID such as 8e03978e-40d5-43dd-bc93-6894a57f9324")
    return value


def check_document(value: Any) -> Any:
    """Limit its size and depth, and allow only what can be stored and sent again as JSON."""
    if not isinstance(value, (dict, list)):
        raise ValueError("must be an object or an array")
    if _depth(value) > MAX_DOCUMENT_DEPTH:
        raise ValueError(f"must be nested no deeper than {MAX_DOCUMENT_DEPTH}")
    try:
        size = len(json.dumps(value, allow_nan=False, ensure_ascii=False).encode())
    except (TypeError, ValueError):  # 1e400, 1e-400, lone surrogates, huge integers
        raise ValueError(
            "must have only numbers in the range of a float, and valid Unicode"
        ) from None
    if size > MAX_DOCUMENT_BYTES:
        raise ValueError(f"must have at most {MAX_DOCUMENT_BYTES} bytes")
    return value


def _depth(document: Any) -> int:
    """Level by level: recursion could overflow the stack."""
    depth, level = 0, [document]
    while level:
        depth += 1
        inner = [v.values() if isinstance(v, dict) else v for v in level]
        level = [v for values in inner for v in values if isinstance(v, (dict, list))]
    return depth


RowId = Annotated[
    int, Field(description="Assigned on creation; never changed and never reused", examples=[1])
]
CreatedAt = Annotated[
    datetime, Field(description="When it was created", examples=["2026-11-24T12:00:00Z"])
]
UpdatedAt = Annotated[
    datetime, Field(description="When it was last changed", examples=["2026-11-24T12:30:00Z"])
]
Email = Annotated[
    str,
    Narrowable(
        StringConstraints(max_length=254),
        AfterValidator(canonical_email),
        WithJsonSchema(
            {
                "type": "string",
                "format": "email",
                "maxLength": 254,
                "examples": ["alice@example.com"],
            }
        ),
    ),
]
# Words joined by hyphens.
Slug = Annotated[
    str,
    Narrowable(
        matching(
            f"^{SLUG}$",
            "must be words of lower-case letters and digits, separated by hyphens",
            max_length=64,
        ),
    ),
]
Username = Annotated[
    str,
    Narrowable(
        matching(f"^{USERNAME}$", "must be 3 to 50 letters, digits, dots, hyphens or underscores"),
    ),
]
Password = Annotated[
    str,
    Narrowable(
        StringConstraints(min_length=8, max_length=128),
        AfterValidator(check_password),
        WithJsonSchema(
            {
                "type": "string",
                "format": "password",
                "minLength": 8,
                "maxLength": 128,
                "description": "At least one uppercase letter, one lowercase letter and one digit",
                "examples": ["Correct-Horse-7"],
            }
        ),
    ),
]
Line = Annotated[
    str,
    Narrowable(
        matching(
            LINE,
            "must be one line of text, not blank, without control characters",
            strip_whitespace=True,
            max_length=200,
        ),
    ),
]
# One item of a comma-separated list.
Choice = Annotated[
    str,
    Narrowable(
        matching(CHOICE, "must be texts separated by commas, none of them empty", max_length=200),
    ),
]
Text = Annotated[
    str, Narrowable(matching(TEXT, "must be text without control characters", max_length=10_000))
]
Money = Annotated[
    Decimal,
    Narrowable(
        BeforeValidator(parse_money),
        WithJsonSchema(
            {
                "anyOf": [
                    {"type": "string", "pattern": f"^{_AMOUNT}$"},
                    {
                        "type": "number",
                        "minimum": 0,
                        "maximum": float(MAX_MONEY),
                        "multipleOf": 0.01,
                    },
                ],
                "examples": ["19.99"],
            },
            mode="validation",
        ),
        WithJsonSchema({"type": "string", "examples": ["19.99"]}, mode="serialization"),
    ),
]
# JSON has one type of number: 5.0 is a whole number; "5" and true are not numbers.
Whole = Annotated[
    int,
    Narrowable(
        Field(ge=-MAX_WHOLE, le=MAX_WHOLE, strict=False),
        BeforeValidator(refuse_text_and_booleans),
    ),
]
Id = Annotated[
    int,
    Narrowable(Field(ge=1, le=MAX_WHOLE, strict=False), BeforeValidator(refuse_text_and_booleans)),
]
# The same in a query, where all values are text.
QueryId = Annotated[int, Narrowable(Field(ge=1, le=MAX_WHOLE))]
# A set of them, as a row keeps it.
Ids = Annotated[
    list[Id],
    Narrowable(Field(max_length=MAX_IDS), AfterValidator(lambda ids: sorted(set(ids)))),
]
Number = Annotated[
    Decimal,
    Narrowable(
        BeforeValidator(parse_number),
        WithJsonSchema(
            {
                "anyOf": [
                    {"type": "string", "pattern": f"^{_NUMBER}$"},
                    {
                        "type": "number",
                        "minimum": -float(MAX_NUMBER),
                        "maximum": float(MAX_NUMBER),
                        "multipleOf": float(MILLIONTH),
                    },
                ],
                "examples": ["1.5"],
            }
        ),
    ),
]
Day = Annotated[date, Field(strict=False), BeforeValidator(check_day)]
Moment = Annotated[
    AwareDatetime, Field(strict=False), BeforeValidator(check_moment), AfterValidator(in_utc)
]
Uuid = Annotated[UUID, Field(strict=False), BeforeValidator(check_uuid)]
Document = Annotated[
    Any,
    AfterValidator(check_document),
    # With `items`, because client generators drop operations that have an array without it.
    WithJsonSchema({"anyOf": [{"type": "object"}, {"type": "array", "items": {}}]}),
]
