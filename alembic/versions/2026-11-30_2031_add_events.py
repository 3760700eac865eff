"""add events"""

from collections.abc import Sequence

import sqlalchemy as sa
from timberframe.data import events

from alembic import op

revision: str = "fcb3d03e7c70"
down_revision: str | None = "5d2c81f40b6e"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

USER = ("id", "full_name", "email", "username", "is_active", "created_at", "updated_at")
PRODUCT = (
    *("id", "sku", "name", "description", "price_cents", "currency", "stock", "is_active"),
    *("category", "tags", "owner_id", "created_at", "updated_at"),
)
TEXT = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("type", TEXT, nullable=False),
        sa.Column("resource", TEXT, nullable=False),
        sa.Column("row_id", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
        sqlite_autoincrement=True,
    )
    connection = op.get_bind()
    events.create_v1(connection, "users", "user", *USER)
    events.create_v1(connection, "products", "product", *PRODUCT, is_soft_deletable=True)


def downgrade() -> None:
    connection = op.get_bind()
    events.drop_v1(connection, "products")
    events.drop_v1(connection, "users")
    op.drop_table("events")
