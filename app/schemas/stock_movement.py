"""Stock movements: what comes in, and what goes out."""

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field
from timberframe.schemas import InputModel, OutputModel, Page
from timberframe.schemas.fields import CreatedAt, Line, RowId, refuse_text_and_booleans

from app.schemas.product import MAX_STOCK


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
