"""What every schema stands on: strict input, plain output, and field types that several share."""

import re
import unicodedata
from decimal import Decimal
from typing import Annotated

from email_validator import EmailNotValidError, validate_email
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    StringConstraints,
    WithJsonSchema,
)

# No control characters, no line or paragraph separators, no bidirectional overrides: they hide
# text, split logs and mail headers, and PostgreSQL cannot store NUL.
_HIDDEN = r"\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069"
LINE = rf"^[^{_HIDDEN}]*[^\s{_HIDDEN}][^{_HIDDEN}]*$"
TEXT = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]*$"
_PASSWORD_NEEDS = {r"[A-Z]": "uppercase letter", r"[a-z]": "lowercase letter", r"[0-9]": "digit"}
CENT = Decimal("0.01")
MAX_MONEY = Decimal("9999999999.99")
USERNAME = r"[A-Za-z0-9._-]{3,50}"


class InputModel(BaseModel):
    """What a client sends: unknown fields are refused, and no value is converted by guesswork."""

    model_config = ConfigDict(extra="forbid", strict=True)


class OutputModel(BaseModel):
    """What a client gets, read from a model's attributes."""

    model_config = ConfigDict(from_attributes=True)


def refuse_text_and_booleans(value: object) -> object:
    if isinstance(value, (str, bool)):
        raise ValueError("must be a whole number")
    return value


def canonical_email(value: str) -> str:
    """One spelling for one address: compatibility forms folded, lower case, readable domain."""
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
    if isinstance(value, str) and not re.fullmatch(r"[0-9]{1,10}(\.[0-9]{1,2})?", value):
        raise ValueError("must be an amount such as 19.99")
    if isinstance(value, bool) or not isinstance(value, (str, int, float, Decimal)):
        raise ValueError("must be a string or a number")
    # A float is read by its shortest spelling: 0.1 means a tenth.
    amount = Decimal(str(value))
    if not amount.is_finite() or not 0 <= amount <= MAX_MONEY:
        raise ValueError(f"must be between 0 and {MAX_MONEY}")
    cents = amount.quantize(CENT)
    if cents != amount:
        raise ValueError("must have no more than two decimals")
    return cents + 0  # without the sign of -0


Email = Annotated[
    str,
    StringConstraints(max_length=254),
    AfterValidator(canonical_email),
    WithJsonSchema({"type": "string", "format": "email", "maxLength": 254}),
]
Username = Annotated[str, StringConstraints(pattern=f"^{USERNAME}$")]
Password = Annotated[
    str,
    StringConstraints(min_length=8, max_length=128),
    AfterValidator(check_password),
    WithJsonSchema(
        {
            "type": "string",
            "format": "password",
            "minLength": 8,
            "maxLength": 128,
            "description": "At least one uppercase letter, one lowercase letter and one digit",
        }
    ),
]
Line = Annotated[str, StringConstraints(strip_whitespace=True, max_length=200, pattern=LINE)]
# One of several with commas between them.
Choice = Annotated[str, StringConstraints(max_length=200, pattern=rf"^[^,{_HIDDEN}]+$")]
Text = Annotated[str, StringConstraints(max_length=10_000, pattern=TEXT)]
Money = Annotated[
    Decimal,
    BeforeValidator(parse_money),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": r"^[0-9]{1,10}(\.[0-9]{1,2})?$"},
                {"type": "number", "minimum": 0, "maximum": float(MAX_MONEY), "multipleOf": 0.01},
            ],
            "examples": ["19.99"],
        },
        mode="validation",
    ),
    WithJsonSchema({"type": "string", "examples": ["19.99"]}, mode="serialization"),
]
