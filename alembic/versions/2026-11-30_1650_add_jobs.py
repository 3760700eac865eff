"""add jobs"""

from collections.abc import Sequence

import sqlalchemy as sa

from alembic import op

revision: str = "5d2c81f40b6e"
down_revision: str | None = "b7e2c90d4a15"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

TEXT = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "jobs",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("priority", sa.BigInteger(), nullable=False),
        sa.Column("key", TEXT, nullable=True),
        sa.Column("tick", moment, nullable=True),
        sa.Column("run_at", moment, nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("deaths", sa.BigInteger(), nullable=False),
        sa.Column("leased_until", moment, nullable=True),
        sa.Column("error", TEXT, nullable=True),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("finished_at", moment, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
        sqlite_autoincrement=True,
    )
    is_open = sa.text("status IN ('queued', 'running')")
    op.create_index(
        "uq_jobs_name_key",
        "jobs",
        ["name", "key"],
        unique=True,
        postgresql_where=is_open,
        sqlite_where=is_open,
    )
    op.create_index("uq_jobs_name_tick", "jobs", ["name", "tick"], unique=True)
    op.create_index(op.f("ix_jobs_finished_at"), "jobs", ["finished_at"])
    for name, columns, status in (
        ("ix_jobs_due", ["run_at"], "queued"),
        ("ix_jobs_queued", ["priority", "run_at", "id"], "queued"),
        ("ix_jobs_running", ["leased_until"], "running"),
    ):
        where = sa.text(f"status = '{status}'")
        op.create_index(name, "jobs", columns, postgresql_where=where, sqlite_where=where)


def downgrade() -> None:
    op.drop_table("jobs")
