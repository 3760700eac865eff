"""The answers."""

from datetime import datetime
from decimal import Decimal

from pydantic import BaseModel, EmailStr, Field


class UserBase(BaseModel):
    email: EmailStr
    username: str = Field(..., min_length=3, max_length=50)
    full_name: str | None = None
    is_active: bool = True


class User(UserBase):
    id: int
    created_at: datetime
    updated_at: datetime

    model_config = {"from_attributes": True}


class ProductCreate(BaseModel):
    sku: str = Field(..., min_length=1, max_length=64)
    name: str = Field(..., min_length=1, max_length=255)
    description: str | None = None
    price: Decimal = Field(..., ge=0)
    currency: str = "EUR"
    stock: int = Field(0, ge=0)
    is_active: bool = True
    category: str | None = None
    tags: list[str] = []


class Product(BaseModel):
    id: int
    sku: str
    name: str
    description: str | None = None
    price: Decimal
    currency: str
    stock: int
    is_active: bool
    category: str | None = None
    tags: list[str]
    owner_id: int
    created_at: datetime
    updated_at: datetime

    model_config = {"from_attributes": True}


class ProductList(BaseModel):
    items: list[Product]
    total: int
    page: int
    size: int
