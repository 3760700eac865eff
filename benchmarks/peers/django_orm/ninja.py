"""The routes, by Django Ninja."""

from datetime import datetime
from decimal import Decimal

from django.shortcuts import get_object_or_404
from django.urls import path
from ninja import NinjaAPI, Query, Schema
from ninja.security import HttpBearer
from pydantic import Field

from benchmarks.peers.django_orm.models import Product
from benchmarks.peers.django_orm.tokens import user_of


class Bearer(HttpBearer):
    def authenticate(self, request, token):
        return user_of(token)


class UserOut(Schema):
    id: int
    email: str
    username: str
    full_name: str | None
    is_active: bool
    created_at: datetime
    updated_at: datetime


class ProductIn(Schema):
    sku: str
    name: str
    description: str | None = None
    price: Decimal
    currency: str = "EUR"
    stock: int = 0
    category: str | None = None
    tags: list[str] = []


class ProductOut(Schema):
    id: int
    sku: str
    name: str
    description: str | None
    price: Decimal
    currency: str
    stock: int
    is_active: bool
    category: str | None
    tags: list[str]
    owner_id: int
    created_at: datetime
    updated_at: datetime


class Page(Schema):
    skip: int = Field(0, ge=0)
    limit: int = Field(100, ge=1, le=100)


api = NinjaAPI(docs_url=None, openapi_url=None)


@api.get("/products/", response=list[ProductOut])
def read_products(request, page: Query[Page]):
    return Product.objects.order_by("id")[page.skip : page.skip + page.limit]


@api.get("/products/{product_id}", response=ProductOut)
def read_product(request, product_id: int):
    return get_object_or_404(Product, pk=product_id)


@api.post("/products/", response={201: ProductOut}, auth=Bearer())
def create_product(request, product_in: ProductIn):
    return 201, Product.objects.create(**product_in.dict(), owner=request.auth)


@api.get("/users/me", response=UserOut, auth=Bearer())
def read_user_me(request):
    return request.auth


urlpatterns = [path("api/v1/", api.urls)]
