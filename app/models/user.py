"""People who may sign in."""

from datetime import datetime

from sqlalchemy import Index, false, func, true
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import NEVER_REUSED, Base, Identified, Timestamped, UTCDateTime, Versioned, utc_now


class User(Identified, Timestamped, Versioned, Base):
    __tablename__ = "users"

    email: Mapped[str] = mapped_column(unique=True)  # canonical: see schemas.base.Email
    username: Mapped[str] = mapped_column()
    full_name: Mapped[str | None]
    hashed_password: Mapped[str]
    is_active: Mapped[bool] = mapped_column(default=True, server_default=true())
    is_superuser: Mapped[bool] = mapped_column(default=False, server_default=false())
    # Disabled for good: a part of what belongs to them may be gone already.
    deleting_since: Mapped[datetime | None] = mapped_column(UTCDateTime)
    # Until a replica has it, he reads from the primary.
    last_write_at: Mapped[datetime | None] = mapped_column(UTCDateTime, default=utc_now)

    __table_args__ = (
        # Shown as it was typed, unique without regard to case.
        Index("uq_users_username", func.lower(username), unique=True),
        NEVER_REUSED,
    )


# One for each order that a list may have; the id makes it total.
for column in (User.username, User.created_at, User.updated_at):
    Index(None, column, User.id)
