"""The specimen's webhooks: their routes and jobs."""

from typing import Annotated

from fastapi import Depends, Path, status

from specimen import models
from specimen.crud import webhook_crud, webhook_delivery_crud
from timberframe.crud import Principal
from timberframe.errors import NotFound, RowLimitReached
from timberframe.jobs import Run, job
from timberframe.results import Created, Slice, Stored
from timberframe.routes import (
    CurrentUser,
    DbRead,
    DbSession,
    Router,
    checked_url,
    creator_of,
    get_current_user,
    listed,
    problems,
    readable,
    writable,
)
from timberframe.schemas import Message, Pagination
from timberframe.schemas import webhook as schemas
from timberframe.webhooks import CheckedUrl, webhook_jobs

router = Router()

WebhookParams = Annotated[Pagination, Depends(listed(webhook_crud))]
DeliveryParams = Annotated[Pagination, Depends(listed(webhook_delivery_crud))]
WebhookInPath = Annotated[Stored[models.Webhook], Depends(readable(webhook_crud))]
WebhookCreator = Annotated[Principal, Depends(creator_of(webhook_crud))]
OwnWebhook = Annotated[models.Webhook, Depends(writable(webhook_crud))]
NewUrl = Annotated[CheckedUrl | None, Depends(checked_url(webhook_crud))]
DeliveryId = Annotated[int, Path(description="The `id` of the delivery", examples=[1])]


@router.get("/", response_model=schemas.WebhookList, dependencies=[Depends(get_current_user)])
async def read_webhooks(
    db: DbRead, params: WebhookParams, current_user: CurrentUser
) -> Slice[models.Webhook]:
    """List one's own webhooks, or all as a superuser."""
    return await webhook_crud.get_multi(db, params=params, viewer=current_user)


@router.post(
    "/",
    response_model=schemas.NewWebhook,
    status_code=status.HTTP_201_CREATED,
    responses=problems(RowLimitReached),
)
async def create_webhook(
    creator: WebhookCreator, db: DbSession, webhook_in: schemas.WebhookCreate
) -> Created[models.Webhook]:
    """Subscribe to events from now on; the answer has the secret, which is not shown again."""
    return await webhook_crud.create(db, obj_in=webhook_in, viewer=creator, owner_id=creator.id)


@router.get(
    "/{webhook_id:id}",
    response_model=schemas.Webhook,
    dependencies=[Depends(get_current_user)],
    responses=problems(NotFound),
)
async def read_webhook(webhook: WebhookInPath) -> Stored[models.Webhook]:
    """Read a webhook, as its owner or a superuser."""
    return webhook


@router.put(
    "/{webhook_id:id}",
    response_model=schemas.Webhook,
    responses=problems(NotFound),
)
@router.patch(
    "/{webhook_id:id}",
    response_model=schemas.Webhook,
    responses=problems(NotFound),
)
async def update_webhook(
    url: NewUrl,
    db: DbSession,
    webhook: OwnWebhook,
    webhook_in: schemas.WebhookUpdate,
    current_user: CurrentUser,
) -> models.Webhook:
    """Change any part of a webhook; `is_active` continues it where deliveries had stopped."""
    return await webhook_crud.update(
        db, db_obj=webhook, obj_in=webhook_in, viewer=current_user, checked=url
    )


@router.delete(
    "/{webhook_id:id}",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problems(NotFound),
)
async def delete_webhook(db: DbSession, webhook: OwnWebhook) -> None:
    """Delete a webhook, as its owner or a superuser."""
    await webhook_crud.delete(db, db_obj=webhook)


@router.post("/{webhook_id:id}/secret", responses=problems(NotFound))
async def replace_webhook_secret(db: DbSession, webhook: OwnWebhook) -> schemas.WebhookSecret:
    """Replace the secret; the previous one signs beside it for 24 hours."""
    return await webhook_crud.replace_secret(db, db_obj=webhook)


@router.get(
    "/{webhook_id:id}/deliveries",
    response_model=schemas.WebhookDeliveryList,
    responses=problems(NotFound),
)
async def read_webhook_deliveries(
    db: DbRead, webhook: OwnWebhook, params: DeliveryParams, current_user: CurrentUser
) -> Slice[models.WebhookDelivery]:
    """List what was delivered to a webhook, and what failed; `sort=-id` has the newest first."""
    return await webhook_delivery_crud.get_multi(
        db,
        params=params,
        viewer=current_user,
        within={models.WebhookDelivery.webhook_id: webhook.id},
    )


@router.post(
    "/{webhook_id:id}/deliveries/{delivery_id:id}/redeliver",
    status_code=status.HTTP_202_ACCEPTED,
    responses=problems(NotFound),
)
async def redeliver_event(db: DbSession, webhook: OwnWebhook, delivery_id: DeliveryId) -> Message:
    """Deliver an event again, whether or not that failed before."""
    await webhook_crud.redeliver(db, webhook=webhook, delivery_id=delivery_id)
    return Message(message="The event will be delivered again")


@job()
async def note_pause(run: Run, webhook_id: int) -> None:
    """An application tells the owner."""


dispatch_webhooks, deliver_webhook, redeliver_webhook = webhook_jobs(
    webhook_crud, when_paused=note_pause
)
WEBHOOK_JOBS = (note_pause, dispatch_webhooks, deliver_webhook, redeliver_webhook)
