"""Stock movements: what comes in, and what goes out."""

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from app.schemas.base import InputModel, Line, OutputModel, refuse_text_and_booleans
from app.schemas.page import Page
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
            description="Pieces that come in, or go out if it is negative",
            json_schema_extra={"not": {"const": 0}},
        ),
        BeforeValidator(refuse_text_and_booleans),
        AfterValidator(refuse_zero),
    ]
    reason: Line


class StockMovement(OutputModel):
    """`stock` is what was there after it."""

    id: int
    product_id: int
    delta: int
    stock: int
    reason: str
    moved_by_id: int | None
    created_at: datetime


class StockMovementList(Page[StockMovement]):
    pass
