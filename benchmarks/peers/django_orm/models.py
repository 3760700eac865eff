"""The tables that myapi's migrations make."""

from decimal import Decimal

from django.db import models


class CentsField(models.BigIntegerField):
    """A decimal with two places, stored as an integer of cents."""

    def from_db_value(self, value, expression, connection):
        return None if value is None else Decimal(value).scaleb(-2)

    def get_prep_value(self, value):
        return None if value is None else int(value * 100)


class User(models.Model):
    email = models.TextField(unique=True)
    username = models.TextField()
    full_name = models.TextField(null=True)
    hashed_password = models.TextField()
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    is_authenticated = True

    class Meta:
        managed = False
        db_table = "users"


class Product(models.Model):
    id = models.BigAutoField(primary_key=True)
    sku = models.TextField(unique=True)
    name = models.TextField()
    description = models.TextField(null=True, blank=True)
    price = CentsField(db_column="price_cents")
    currency = models.TextField(default="EUR")
    stock = models.BigIntegerField(default=0)
    is_active = models.BooleanField(default=True)
    category = models.TextField(null=True, blank=True)
    tags = models.JSONField(default=list)
    owner = models.ForeignKey(User, on_delete=models.CASCADE)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        managed = False
        db_table = "products"
