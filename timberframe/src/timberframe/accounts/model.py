"""The columns of an account."""

from datetime import datetime
from typing import Any

from sqlalchemy import Index, Table, false, func, true
from sqlalchemy.orm import Mapped, mapped_column

from timberframe.data.base import Record, utc_now
from timberframe.data.column_types import UTCDateTime


class Account(Record):
    """A user who can sign in. Your subclass names the table, and adds columns of its own."""

    __abstract__ = True

    email: Mapped[str] = mapped_column(unique=True)  # canonical: see schemas.fields.Email
    username: Mapped[str]
    hashed_password: Mapped[str]
    is_active: Mapped[bool] = mapped_column(default=True, server_default=true())
    is_superuser: Mapped[bool] = mapped_column(default=False, server_default=false())
    # Disabled for good: some of their rows may be deleted already.
    deleting_since: Mapped[datetime | None] = mapped_column(UTCDateTime)
    # The user reads from the primary until a replica has what they wrote.
    last_write_at: Mapped[datetime | None] = mapped_column(UTCDateTime, default=utc_now)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)  # where SQLAlchemy maps it
        table = cls.__dict__.get("__table__")
        if isinstance(table, Table):
            # Stored as it was typed, unique without regard to case.
            Index(f"uq_{table.name}_username", func.lower(table.c.username), unique=True)
