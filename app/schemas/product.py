"""Products: what comes in, and what goes out."""

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
from timberframe.schemas import InputModel, OutputModel, Page
from timberframe.schemas.fields import (
    SLUG,
    CreatedAt,
    Line,
    Money,
    RowId,
    Slug,
    Text,
    UpdatedAt,
    matching,
    refuse_text_and_booleans,
)

MAX_STOCK = 2**31 - 1
MAX_TAGS = 20
CURRENCY_CODES = frozenset(currency.code for currency in iso4217.Currency)


def check_currency(value: str) -> str:
    if value not in CURRENCY_CODES:
        raise ValueError("must be a currency code of ISO 4217, such as EUR")
    return value


SKU = r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,63}$"
Sku = Annotated[str, matching(SKU, "must be 1 to 64 letters, digits and ._/- after the first")]
Currency = Annotated[
    str,
    AfterValidator(check_currency),
    WithJsonSchema({"type": "string", "enum": sorted(CURRENCY_CODES)}),
]
# JSON has one type of number: 5.0 is a whole number; "5" and true are not numbers.
Stock = Annotated[
    int,
    Field(ge=0, le=MAX_STOCK, strict=False),
    BeforeValidator(refuse_text_and_booleans),
]
Tag = Annotated[str, StringConstraints(pattern=f"^{SLUG}$", max_length=40), Field(examples=["oak"])]
Tags = Annotated[
    list[Tag],
    Field(max_length=MAX_TAGS),
    AfterValidator(lambda tags: sorted(set(tags))),
]


class ProductCreate(InputModel):
    sku: Sku
    name: Line
    description: Text | None = None
    price: Money
    currency: Currency = "EUR"
    stock: Stock = 0
    is_active: bool = True
    category: Slug | None = None
    tags: Tags = Field(default=[])


class ProductUpdate(InputModel):
    sku: Sku | MISSING = MISSING
    name: Line | MISSING = MISSING
    description: Text | None | MISSING = MISSING
    price: Money | MISSING = MISSING
    currency: Currency | MISSING = MISSING
    stock: Stock | MISSING = MISSING
    is_active: bool | MISSING = MISSING
    category: Slug | None | MISSING = MISSING
    tags: Tags | MISSING = MISSING


class Product(OutputModel):
    id: RowId
    sku: str = Field(
        description="The owner's own name for it, unique among all products", examples=["CH-1"]
    )
    name: str = Field(description="As people read it", examples=["Oak chair"])
    description: str | None = Field(
        description="More about it; it may have several lines", examples=["Solid, with arms"]
    )
    price: Annotated[Decimal, WithJsonSchema({"type": "string"})] = Field(
        description="Exact, with two decimals", examples=["19.99"]
    )
    currency: str = Field(description="Of the price: ISO 4217", examples=["EUR"])
    stock: int = Field(description="Pieces that can be sold", examples=[12])
    is_active: bool = Field(
        description="Whether others than the owner and superusers see it", examples=[True]
    )
    category: str | None = Field(description="The slug of its category", examples=["chairs"])
    tags: list[str] = Field(description="In alphabetical order", examples=[["oak", "sale"]])
    owner_id: int = Field(description="The `id` of the user who created it", examples=[1])
    created_at: CreatedAt
    updated_at: UpdatedAt


class ProductList(Page[Product]):
    pass
