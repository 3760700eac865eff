"""The table that is the queue."""

from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar, Literal

from sqlalchemy import Index
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from timberframe.data.base import Base, Identified
from timberframe.data.column_types import Document, Text, UTCDateTime


class Status(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    DEAD = "dead"  # parked: it is not tried again unless somebody asks for it


AnyStatus = Literal["queued", "running", "done", "dead"]


class StatusText(TypeDecorator[str]):
    """A status; a filter by any other text is refused."""

    impl = Text
    cache_ok = True
    python_type = str
    filter_type = AnyStatus
    json_spelling: ClassVar[dict[str, str]] = {}


class JobRecord(Identified, Base):
    """One piece of work; times are those of the database's clock."""

    __tablename__ = "jobs"

    name: Mapped[str]
    payload: Mapped[dict[str, Any]] = mapped_column(Document)
    status: Mapped[str] = mapped_column(StatusText, default=Status.QUEUED)
    priority: Mapped[int] = mapped_column(default=0)  # the lowest number goes first
    key: Mapped[str | None]  # no other waiting or running job of the name has it
    tick: Mapped[datetime | None] = mapped_column(UTCDateTime)  # of a schedule, which made it
    run_at: Mapped[datetime] = mapped_column(UTCDateTime)
    attempts: Mapped[int] = mapped_column(default=0)
    deaths: Mapped[int] = mapped_column(default=0)  # how often its worker died
    leased_until: Mapped[datetime | None] = mapped_column(UTCDateTime)
    error: Mapped[str | None]  # of the last attempt
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UTCDateTime, index=True)


_IS_QUEUED = JobRecord.status == Status.QUEUED
_IS_RUNNING = JobRecord.status == Status.RUNNING
_IS_DEAD = JobRecord.status == Status.DEAD
_IS_OPEN = JobRecord.status.in_((Status.QUEUED, Status.RUNNING))
Index(
    "uq_jobs_name_key",
    *(JobRecord.name, JobRecord.key),
    unique=True,
    postgresql_where=_IS_OPEN,
    sqlite_where=_IS_OPEN,
)
Index("uq_jobs_name_tick", JobRecord.name, JobRecord.tick, unique=True)
Index("ix_jobs_due", JobRecord.run_at, postgresql_where=_IS_QUEUED, sqlite_where=_IS_QUEUED)
Index(
    "ix_jobs_queued",
    *(JobRecord.priority, JobRecord.run_at, JobRecord.id),
    postgresql_where=_IS_QUEUED,
    sqlite_where=_IS_QUEUED,
)
Index(
    "ix_jobs_running",
    JobRecord.leased_until,
    postgresql_where=_IS_RUNNING,
    sqlite_where=_IS_RUNNING,
)
Index(
    "ix_jobs_dead",
    JobRecord.finished_at,
    postgresql_where=_IS_DEAD,
    sqlite_where=_IS_DEAD,
)
