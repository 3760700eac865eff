"""What the specimen's clients send and get."""

from decimal import Decimal
from typing import Annotated, Literal

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
    Email,
    Line,
    Money,
    Password,
    RowId,
    Slug,
    Text,
    UpdatedAt,
    Username,
    matching,
    refuse_text_and_booleans,
)


class UserCreate(InputModel):
    email: Email
    username: Username
    full_name: Line | None = None
    password: Password


class UserUpdate(InputModel):
    """What users may change about themselves; e-mail and password need the current password."""

    email: Email | MISSING = MISSING
    full_name: Line | None | MISSING = MISSING
    password: Password | MISSING = MISSING
    current_password: Annotated[str, Field(max_length=128)] | None = Field(
        default=None,
        description="Needed for a new `email` or `password`",
        examples=["Correct-Horse-7"],
    )

    @property
    def needs_password(self) -> bool:
        return self.email is not MISSING or self.password is not MISSING


class UserAdminUpdate(InputModel):
    """What a superuser may change about anyone."""

    email: Email | MISSING = MISSING
    full_name: Line | None | MISSING = MISSING
    is_active: bool | MISSING = MISSING
    is_superuser: bool | MISSING = Field(
        default=MISSING, description="Whether they may read and change everything"
    )


class User(OutputModel):
    """A user as others see it: nothing secret."""

    id: RowId
    email: str = Field(
        description="In lower case; unique among all users", examples=["alice@example.com"]
    )
    username: str = Field(
        description="Unique among all users, in whatever case; never changed", examples=["alice"]
    )
    full_name: str | None = Field(description="As people read it", examples=["Alice Archer"])
    is_active: bool = Field(description="Whether they can sign in", examples=[True])
    created_at: CreatedAt
    updated_at: UpdatedAt


class UserList(Page[User]):
    pass


MAX_STOCK = 2**31 - 1
MAX_TAGS = 20
SKU = r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,63}$"
Sku = Annotated[str, matching(SKU, "must be 1 to 64 letters, digits and ._/- after the first")]
Currency = Literal["EUR", "JPY", "USD"]
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


class CategoryCreate(InputModel):
    slug: Slug
    name: Line


class Category(OutputModel):
    id: RowId
    slug: str
    name: str
    created_at: CreatedAt
    updated_at: UpdatedAt


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


def refuse_zero(value: int) -> int:
    if value == 0:
        raise ValueError("must not be 0")
    return value


class StockMovementCreate(InputModel):
    delta: Annotated[
        int,
        Field(
            ge=-MAX_STOCK,
            le=MAX_STOCK,
            strict=False,
            json_schema_extra={"not": {"const": 0}},
        ),
        BeforeValidator(refuse_text_and_booleans),
        AfterValidator(refuse_zero),
    ]
    reason: Line


class StockMovement(OutputModel):
    id: RowId
    product_id: int = Field(description="The `id` of the product", examples=[1])
    delta: int = Field(
        description="Pieces that come in, or go out if it is negative", examples=[-2]
    )
    stock: int = Field(description="Pieces that were there after it", examples=[10])
    reason: str = Field(description="Why, for people", examples=["Sold at the counter"])
    moved_by_id: int | None = Field(
        description="The `id` of the user who did it; null once they are deleted", examples=[1]
    )
    created_at: CreatedAt


class StockMovementList(Page[StockMovement]):
    pass
