"""add deletion of users"""

from collections.abc import Sequence

import sqlalchemy as sa

from alembic import op

revision: str = "b7e2c90d4a15"
down_revision: str | None = "5d0e8c41b7fa"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    moment = sa.DateTime(timezone=True)
    op.add_column("users", sa.Column("deleting_since", moment, nullable=True))


def downgrade() -> None:
    op.drop_column("users", "deleting_since")
