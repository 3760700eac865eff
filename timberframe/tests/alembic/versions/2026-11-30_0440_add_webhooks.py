"""add webhooks"""

from collections.abc import Sequence

from alembic import op

from timberframe.data.base import Base

revision: str = "a10000000005"
down_revision: str | None = "a10000000004"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

TABLES = ("webhooks", "webhook_deliveries")


def upgrade() -> None:
    connection = op.get_bind()
    for name in TABLES:
        Base.metadata.tables[name].create(connection)


def downgrade() -> None:
    for name in reversed(TABLES):
        op.drop_table(name)
