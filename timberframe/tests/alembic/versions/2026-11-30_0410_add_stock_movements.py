"""add stock movements"""

from collections.abc import Sequence

from alembic import op

from timberframe.data.base import Base

revision: str = "a10000000002"
down_revision: str | None = "a10000000001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


TABLES = ("stock_movements", "idempotency_keys", "jobs")


def upgrade() -> None:
    for name in TABLES:
        Base.metadata.tables[name].create(op.get_bind())


def downgrade() -> None:
    for name in TABLES:
        Base.metadata.tables[name].drop(op.get_bind())
