"""What the routes and the probe show of the queue."""

from datetime import datetime
from typing import Any

from pydantic import Field

from timberframe.jobs.models import AnyStatus
from timberframe.schemas.fields import CreatedAt, RowId
from timberframe.schemas.models import OutputModel
from timberframe.schemas.page import Page

MAX_COUNTED = 1_000


class Job(OutputModel):
    id: RowId
    name: str = Field(description="The name of its function", examples=["mail_notification"])
    payload: dict[str, Any] = Field(
        description="What the function is called with", examples=[{"email": "alice@example.com"}]
    )
    status: AnyStatus = Field(
        description="`dead`: it has failed for good, and waits for somebody to retry or delete it"
    )
    priority: int = Field(description="The lowest number goes first", examples=[0])
    key: str | None = Field(
        description="No other job of this name that waits or runs has it", examples=["order 7"]
    )
    attempts: int = Field(
        description="How often it was begun since it was enqueued or retried", examples=[1]
    )
    deaths: int = Field(description="How often its worker died while it ran", examples=[0])
    run_at: datetime = Field(
        description="When it is due, or was", examples=["2026-11-24T12:00:00Z"]
    )
    leased_until: datetime | None = Field(
        description="While it runs: when another worker takes it over unless its own is alive",
        examples=["2026-11-24T12:00:30Z"],
    )
    error: str | None = Field(
        description="Why the last attempt failed", examples=["TimeLimit: it took longer than 300 s"]
    )
    created_at: CreatedAt
    finished_at: datetime | None = Field(
        description="When it was done, or parked as dead", examples=["2026-11-24T12:00:01Z"]
    )
    tick: datetime | None = Field(
        description="The time of the schedule that enqueued it", examples=["2026-11-24T03:00:00Z"]
    )


class JobList(Page[Job]):
    pass


class Backlog(OutputModel):
    """How the queue stands, without names and payloads: anybody may ask for it."""

    queued: int = Field(
        description=f"Jobs that are due and have not begun; at most {MAX_COUNTED} are counted",
        examples=[3],
    )
    oldest_seconds: float = Field(
        description="How long the oldest of them has been due", examples=[1.5]
    )
    ended_per_minute: int = Field(
        description=(
            "Jobs that were done, or parked as dead, within the last minute; at most"
            f" {MAX_COUNTED} are counted"
        ),
        examples=[120],
    )
    failed: int = Field(
        description=(
            f"Jobs that were parked as dead within the last hour; at most {MAX_COUNTED} are counted"
        ),
        examples=[0],
    )
