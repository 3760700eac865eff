"""add full text search"""

from collections.abc import Sequence

from alembic import op

from timberframe.search import index as search_index

revision: str = "a10000000003"
down_revision: str | None = "a10000000002"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    connection = op.get_bind()
    execute, dialect = connection.exec_driver_sql, connection.dialect.name
    search_index.create_v1(execute, dialect, "products", "sku", "name", "description")
    search_index.create_v1(execute, dialect, "users", "email", "username", "full_name")


def downgrade() -> None:
    connection = op.get_bind()
    execute, dialect = connection.exec_driver_sql, connection.dialect.name
    search_index.drop_v1(execute, dialect, "users")
    search_index.drop_v1(execute, dialect, "products")
