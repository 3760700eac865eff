"""add stock movements"""

from collections.abc import Sequence

import sqlalchemy as sa

from alembic import op

revision: str = "7c1d90b2a4e6"
down_revision: str | None = "9c1d5e70b2a4"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TEXT = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "stock_movements",
        sa.Column("id", ID, nullable=False),
        sa.Column("product_id", ID, nullable=False),
        sa.Column("delta", sa.BigInteger(), nullable=False),
        sa.Column("stock", sa.BigInteger(), nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("moved_by_id", ID, nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["product_id"],
            ["products.id"],
            name=op.f("fk_stock_movements_product_id_products"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["moved_by_id"],
            ["users.id"],
            name=op.f("fk_stock_movements_moved_by_id_users"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_stock_movements")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        op.f("ix_stock_movements_product_id_id"), "stock_movements", ["product_id", "id"]
    )
    op.create_index(op.f("ix_stock_movements_moved_by_id"), "stock_movements", ["moved_by_id"])


def downgrade() -> None:
    op.drop_table("stock_movements")
