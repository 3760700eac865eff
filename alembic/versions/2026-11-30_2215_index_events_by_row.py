"""index events by row"""

from collections.abc import Sequence

from alembic import op

revision: str = "b5e0d8214c97"
down_revision: str | None = "7c41d9e8a3b5"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_index(op.f("ix_events_row_id_resource_id"), "events", ["row_id", "resource", "id"])


def downgrade() -> None:
    op.drop_index(op.f("ix_events_row_id_resource_id"), table_name="events")
