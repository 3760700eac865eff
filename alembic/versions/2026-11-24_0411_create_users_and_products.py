"""create users and products"""

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa

from alembic import op

revision: str = "3f543d977472"
down_revision: str | None = None
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TEXT = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "users",
        sa.Column("id", ID, nullable=False),
        sa.Column("email", TEXT, nullable=False),
        sa.Column("username", TEXT, nullable=False),
        sa.Column("full_name", TEXT, nullable=True),
        sa.Column("hashed_password", TEXT, nullable=False),
        sa.Column("is_active", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("is_superuser", sa.Boolean(), server_default=sa.false(), nullable=False),
        *timestamps(),
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.UniqueConstraint("email", name=op.f("uq_users_email")),
        sqlite_autoincrement=True,
    )
    op.create_index("uq_users_username", "users", [sa.text("lower(username)")], unique=True)
    for column in ("username", "created_at"):
        op.create_index(op.f(f"ix_users_{column}_id"), "users", [column, "id"])
    op.create_table(
        "products",
        sa.Column("id", ID, nullable=False),
        sa.Column("sku", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("description", TEXT, nullable=True),
        sa.Column("price_cents", sa.BigInteger(), nullable=False),
        sa.Column("currency", TEXT, nullable=False),
        sa.Column("stock", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("is_active", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("owner_id", ID, nullable=False),
        *timestamps(),
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "price_cents BETWEEN 0 AND 999999999999", name=op.f("ck_products_price")
        ),
        sa.CheckConstraint("stock >= 0", name=op.f("ck_products_stock")),
        sa.ForeignKeyConstraint(
            ["owner_id"],
            ["users.id"],
            name=op.f("fk_products_owner_id_users"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_products")),
        sqlite_autoincrement=True,
    )
    is_kept = sa.text("deleted_at IS NULL")
    op.create_index(
        "uq_products_sku",
        "products",
        ["sku"],
        unique=True,
        sqlite_where=is_kept,
        postgresql_where=is_kept,
    )
    for column in ("name", "price_cents", "created_at", "owner_id"):
        op.create_index(op.f(f"ix_products_{column}_id"), "products", [column, "id"])


def downgrade() -> None:
    op.drop_table("products")
    op.drop_table("users")


def timestamps() -> list[sa.Column[datetime]]:
    now = sa.func.now()
    return [
        sa.Column(name, sa.DateTime(timezone=True), server_default=now, nullable=False)
        for name in ("created_at", "updated_at")
    ]
