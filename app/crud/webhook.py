"""Webhooks: what may be subscribed to, and who sees them and what was delivered to them."""

from typing import Any

from sqlalchemy import ColumnElement, select
from timberframe.crud import EQUALITY, RANGE, Policy, Principal, RowLimit, owner
from timberframe.webhooks import WebhookOptions, Webhooks

from app import schemas
from app.core.config import settings
from app.crud.base import CRUDBase
from app.crud.product import product_crud
from app.crud.user import user_crud
from app.models import Webhook, WebhookDelivery
from app.schemas import WebhookCreate, WebhookUpdate


class CRUDWebhook(CRUDBase[Webhook, WebhookCreate, WebhookUpdate], Webhooks[Webhook]):
    policy = Policy(read=owner(Webhook.owner_id), write=owner(Webhook.owner_id))
    resources = (product_crud, user_crud)
    accounts = user_crud
    deliveries = WebhookDelivery
    row_limit = RowLimit(Webhook.owner_id, 20)
    filters = {Webhook.is_active: ("eq",), Webhook.owner_id: EQUALITY, Webhook.created_at: RANGE}


webhook_crud = CRUDWebhook(Webhook, WebhookOptions.of(settings))


def of_own_webhooks(viewer: Principal | None) -> ColumnElement[bool]:
    webhooks = select(Webhook.id).where(webhook_crud.policy.read(viewer))
    return WebhookDelivery.webhook_id.in_(webhooks)


class CRUDWebhookDelivery(CRUDBase[WebhookDelivery, Any, Any]):
    policy = Policy(read=of_own_webhooks, write=of_own_webhooks)
    schema = schemas.WebhookDelivery
    filters = {
        WebhookDelivery.status: EQUALITY,
        WebhookDelivery.type: EQUALITY,
        WebhookDelivery.created_at: RANGE,
    }


webhook_delivery_crud = CRUDWebhookDelivery(WebhookDelivery)
