"""add categories and tags"""

from collections.abc import Sequence

import sqlalchemy as sa

from alembic import op
from app.db import catalogue

revision: str = "4f6d90e4237d"
down_revision: str | None = "5b8f0c6de173"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TEXT = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    moment, now = sa.DateTime(timezone=True), sa.func.now()
    op.create_table(
        "categories",
        sa.Column("id", ID, nullable=False),
        sa.Column("slug", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("parent", TEXT, nullable=True),
        sa.Column("created_at", moment, server_default=now, nullable=False),
        sa.Column("updated_at", moment, server_default=now, nullable=False),
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        sa.ForeignKeyConstraint(
            ["parent"], ["categories.slug"], name=op.f("fk_categories_parent_categories")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_categories")),
        sa.UniqueConstraint("slug", name=op.f("uq_categories_slug")),
        sqlite_autoincrement=True,
    )
    for column in ("name", "parent", "created_at"):
        op.create_index(op.f(f"ix_categories_{column}_id"), "categories", [column, "id"])
    op.create_table(
        "category_counts",
        sa.Column("category", TEXT, nullable=False),
        sa.Column("slot", sa.SmallInteger(), nullable=False),
        sa.Column("products", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("category", "slot", name=op.f("pk_category_counts")),
    )
    op.create_table(
        "product_tags",
        sa.Column("tag", TEXT, nullable=False),
        sa.Column("product_id", ID, nullable=False),
        sa.ForeignKeyConstraint(
            ["product_id"],
            ["products.id"],
            name=op.f("fk_product_tags_product_id_products"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tag", "product_id", name=op.f("pk_product_tags")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_product_tags_product_id"), "product_tags", ["product_id"])
    _add_columns()
    op.create_index(op.f("ix_products_category_id"), "products", ["category", "id"])
    connection = op.get_bind()
    catalogue.create_v1(connection.exec_driver_sql, connection.dialect.name)


def _add_columns() -> None:
    tags = sa.Column("tags", TEXT, server_default="[]", nullable=False)
    op.add_column("products", tags)
    if op.get_bind().dialect.name == "sqlite":
        # Alembic would copy the table, and its index of full-text search be lost.
        op.execute(
            "ALTER TABLE products ADD COLUMN category VARCHAR"
            " CONSTRAINT fk_products_category_categories REFERENCES categories (slug)"
        )
        return
    op.add_column("products", sa.Column("category", TEXT, nullable=True))
    op.create_foreign_key(
        op.f("fk_products_category_categories"), "products", "categories", ["category"], ["slug"]
    )


def downgrade() -> None:
    connection = op.get_bind()
    catalogue.drop_v1(connection.exec_driver_sql, connection.dialect.name)
    op.drop_index(op.f("ix_products_category_id"), "products")
    op.drop_column("products", "category")
    op.drop_column("products", "tags")
    op.drop_table("product_tags")
    op.drop_table("category_counts")
    op.drop_table("categories")
