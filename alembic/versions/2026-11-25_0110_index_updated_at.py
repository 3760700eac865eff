"""index updated at"""

from collections.abc import Sequence

from alembic import op

revision: str = "5d0e8c41b7fa"
down_revision: str | None = "a3c5e7f19b20"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

TABLES = ("users", "products", "categories")


def upgrade() -> None:
    for table in TABLES:
        op.create_index(op.f(f"ix_{table}_updated_at_id"), table, ["updated_at", "id"])


def downgrade() -> None:
    for table in TABLES:
        op.drop_index(op.f(f"ix_{table}_updated_at_id"), table_name=table)
