"""add events"""

from collections.abc import Sequence

from alembic import op

from timberframe.data import events
from timberframe.data.base import Base

revision: str = "a10000000004"
down_revision: str | None = "a10000000003"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

USER = ("id", "full_name", "email", "username", "is_active", "created_at", "updated_at")
PRODUCT = (
    *("id", "sku", "name", "description", "price_cents", "currency", "stock", "is_active"),
    *("category", "tags", "owner_id", "created_at", "updated_at"),
)


def upgrade() -> None:
    connection = op.get_bind()
    Base.metadata.tables["events"].create(connection)
    events.create_v1(connection, "users", "user", *USER)
    events.create_v1(connection, "products", "product", *PRODUCT, is_soft_deletable=True)


def downgrade() -> None:
    connection = op.get_bind()
    events.drop_v1(connection, "products")
    events.drop_v1(connection, "users")
    op.drop_table("events")
