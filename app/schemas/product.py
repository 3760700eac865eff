"""Products: what comes in, and what goes out."""

import re
from datetime import datetime
from decimal import Decimal
from typing import Annotated

import iso4217
from pydantic import (
    MISSING,
    AfterValidator,
    BeforeValidator,
    Field,
    StringConstraints,
    WithJsonSchema,
)

from app.schemas.base import InputModel, Line, OutputModel, Text, refuse_text_and_booleans
from app.schemas.page import Page

CENT = Decimal("0.01")
MAX_PRICE = Decimal("9999999999.99")
MAX_STOCK = 2**31 - 1
CURRENCY_CODES = sorted(currency.code for currency in iso4217.Currency)


def parse_price(value: object) -> Decimal:
    """An exact amount from a JSON string or number: two decimals at most, never negative."""
    if isinstance(value, str) and not re.fullmatch(r"[0-9]{1,10}(\.[0-9]{1,2})?", value):
        raise ValueError("must be an amount such as 19.99")
    if isinstance(value, bool) or not isinstance(value, (str, int, float, Decimal)):
        raise ValueError("must be a string or a number")
    # A float is read by its shortest spelling: 0.1 means a tenth.
    price = Decimal(str(value))
    if not price.is_finite() or not 0 <= price <= MAX_PRICE:
        raise ValueError(f"must be between 0 and {MAX_PRICE}")
    cents = price.quantize(CENT)
    if cents != price:
        raise ValueError("must have no more than two decimals")
    return cents + 0  # without the sign of -0


def check_currency(value: str) -> str:
    if value not in CURRENCY_CODES:
        raise ValueError("must be a currency code of ISO 4217, such as EUR")
    return value


Price = Annotated[
    Decimal,
    BeforeValidator(parse_price),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": r"^[0-9]{1,10}(\.[0-9]{1,2})?$"},
                {"type": "number", "minimum": 0, "maximum": float(MAX_PRICE), "multipleOf": 0.01},
            ],
            "examples": ["19.99"],
        },
        mode="validation",
    ),
    WithJsonSchema({"type": "string", "examples": ["19.99"]}, mode="serialization"),
]
Sku = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,63}$")]
Currency = Annotated[
    str, AfterValidator(check_currency), WithJsonSchema({"type": "string", "enum": CURRENCY_CODES})
]
# JSON has one kind of number: 5.0 is a whole one; "5" and true are none.
Stock = Annotated[
    int,
    Field(ge=0, le=MAX_STOCK, strict=False),
    BeforeValidator(refuse_text_and_booleans),
]


class ProductCreate(InputModel):
    sku: Sku
    name: Line
    description: Text | None = None
    price: Price
    currency: Currency = "EUR"
    stock: Stock = 0
    is_active: bool = True


class ProductUpdate(InputModel):
    sku: Sku | MISSING = MISSING
    name: Line | MISSING = MISSING
    description: Text | None | MISSING = MISSING
    price: Price | MISSING = MISSING
    currency: Currency | MISSING = MISSING
    stock: Stock | MISSING = MISSING
    is_active: bool | MISSING = MISSING


class Product(OutputModel):
    id: int
    sku: str
    name: str
    description: str | None
    price: Annotated[Decimal, WithJsonSchema({"type": "string", "examples": ["19.99"]})]
    currency: str
    stock: int
    is_active: bool
    owner_id: int
    created_at: datetime
    updated_at: datetime


class ProductList(Page[Product]):
    pass
