"""The columns of webhooks, and of what was delivered to them."""

from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import ForeignKey, Index, Table, true
from sqlalchemy.orm import Mapped, mapped_column

from timberframe.data.base import Base, Identified, Record
from timberframe.data.column_types import StringList, UTCDateTime


class Subscription(Record):
    """A URL that is called for each event of some types. Your subclass names the table and owner.

    Secrets are stored as they are: each delivery is signed with them.
    """

    __abstract__ = True

    if TYPE_CHECKING:
        owner_id: Mapped[int]

    url: Mapped[str]
    events: Mapped[list[str]] = mapped_column(StringList)
    description: Mapped[str | None]
    is_active: Mapped[bool] = mapped_column(default=True, server_default=true())
    # Since when nothing is delivered because too many attempts have failed, and how the last did
    paused_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    pause_reason: Mapped[str | None]
    secret: Mapped[str]
    previous_secret: Mapped[str | None]
    previous_secret_until: Mapped[datetime | None] = mapped_column(UTCDateTime)
    position: Mapped[int]  # the id of the last event that was delivered, or was not for it
    failures: Mapped[int] = mapped_column(default=0, server_default="0")  # to deliver the next


class Delivery(Identified, Base):
    """An event and how its last delivery ended; gone with the event, or with the webhook.

    Your subclass names the table, and has the foreign key `webhook_id`.
    """

    __abstract__ = True

    if TYPE_CHECKING:
        webhook_id: Mapped[int]

    event_id: Mapped[int] = mapped_column(ForeignKey("events.id", ondelete="CASCADE"))
    type: Mapped[str]
    status: Mapped[str]  # delivered or failed
    attempts: Mapped[int]
    http_status: Mapped[int | None]
    error: Mapped[str | None]
    answer: Mapped[str | None]  # its beginning
    duration_ms: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)
    attempted_at: Mapped[datetime] = mapped_column(UTCDateTime)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)  # where SQLAlchemy maps it
        table = cls.__dict__.get("__table__")
        if isinstance(table, Table):
            # By event first, for those that are deleted together with it.
            columns = table.c.event_id, table.c.webhook_id
            Index(f"uq_{table.name}_event_id_webhook_id", *columns, unique=True)
            Index(None, table.c.webhook_id, table.c.id)
