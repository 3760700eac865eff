"""index dead jobs"""

from collections.abc import Sequence

import sqlalchemy as sa

from alembic import op

revision: str = "8e41c07d92f3"
down_revision: str | None = "fcb3d03e7c70"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    is_dead = sa.text("status = 'dead'")
    op.create_index(
        "ix_jobs_dead", "jobs", ["finished_at"], postgresql_where=is_dead, sqlite_where=is_dead
    )


def downgrade() -> None:
    op.drop_index("ix_jobs_dead", table_name="jobs")
