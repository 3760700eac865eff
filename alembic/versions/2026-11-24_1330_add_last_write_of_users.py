"""add last write of users"""

from collections.abc import Sequence

import sqlalchemy as sa

from alembic import op

revision: str = "a3c5e7f19b20"
down_revision: str | None = "4f6d90e4237d"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    moment = sa.DateTime(timezone=True)
    op.add_column("users", sa.Column("last_write_at", moment, nullable=True))


def downgrade() -> None:
    op.drop_column("users", "last_write_at")
