"""Webhooks: what comes in, and what goes out."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import MISSING, AfterValidator, Field, StringConstraints

from timberframe.schemas.fields import CreatedAt, Line, RowId, UpdatedAt
from timberframe.schemas.models import InputModel, OutputModel
from timberframe.schemas.page import Page

MAX_URL_LENGTH = 2000
MAX_TYPES = 50
_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105 - the specification's example

# `webhooks.targets` says what may be called.
Url = Annotated[str, Field(max_length=MAX_URL_LENGTH, json_schema_extra={"format": "uri"})]
EventType = Annotated[str, StringConstraints(max_length=100)]
EventTypes = Annotated[
    list[EventType],
    Field(min_length=1, max_length=MAX_TYPES),
    AfterValidator(lambda types: sorted(set(types))),
]


class WebhookCreate(InputModel):
    url: Url
    events: EventTypes
    description: Line | None = None
    is_active: bool = True


class WebhookUpdate(InputModel):
    url: Url | MISSING = MISSING
    events: EventTypes | MISSING = MISSING
    description: Line | None | MISSING = MISSING
    is_active: bool | MISSING = MISSING


class Webhook(OutputModel):
    id: RowId
    url: str = Field(
        description="Which is called by POST; it must be public, and `https`",
        examples=["https://shop.example.com/hooks"],
    )
    events: list[str] = Field(
        description="The types of events that are delivered", examples=[["user.created"]]
    )
    description: str | None = Field(
        description="What it is for, in words of your own", examples=["Newsletter"]
    )
    is_active: bool = Field(
        description="Whether events are delivered; `true` continues where deliveries had stopped"
    )
    paused_at: datetime | None = Field(
        description="When it was made inactive because deliveries had failed for a day",
        examples=["2026-11-24T12:00:00Z"],
    )
    pause_reason: str | None = Field(
        description="How the last of these failed", examples=["The target answered 500"]
    )
    owner_id: int = Field(description="The `id` of the user who created it", examples=[1])
    created_at: CreatedAt
    updated_at: UpdatedAt


class WebhookList(Page[Webhook]):
    pass


class NewWebhook(Webhook):
    """With the secret, which is not shown again."""

    secret: str = Field(
        description="Verifies deliveries; it is shown only here", examples=[_SECRET]
    )


class WebhookSecret(OutputModel):
    secret: str = Field(
        description="Verifies deliveries from now on; it is shown only here", examples=[_SECRET]
    )
    previous_secret_until: datetime = Field(
        description="Until then, deliveries are signed with the previous secret too",
        examples=["2026-11-25T12:00:00Z"],
    )


class WebhookDelivery(OutputModel):
    id: RowId
    webhook_id: int = Field(description="The `id` of the webhook", examples=[1])
    event_id: int = Field(description="The `id` of the event", examples=[17])
    type: str = Field(description="The type of the event", examples=["user.created"])
    status: Literal["delivered", "failed"] = Field(
        description="How the last attempt ended", examples=["failed"]
    )
    attempts: int = Field(description="How often it was tried", examples=[1])
    http_status: int | None = Field(
        description="Of the last answer; null if there was none", examples=[204]
    )
    error: str | None = Field(
        description="Why the last attempt failed", examples=["The target answered 500"]
    )
    answer: str | None = Field(
        description="The beginning of the last answer, as the target sent it", examples=["ok"]
    )
    duration_ms: int = Field(description="How long the last attempt took", examples=[83])
    created_at: CreatedAt
    attempted_at: datetime = Field(
        description="When the last attempt was made", examples=["2026-11-24T12:00:00Z"]
    )


class WebhookDeliveryList(Page[WebhookDelivery]):
    pass
