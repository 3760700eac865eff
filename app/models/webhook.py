"""Webhooks, each owned by the user who created it, and what was delivered to them."""

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column
from timberframe.webhooks import Delivery, Subscription


class Webhook(Subscription):
    __tablename__ = "webhooks"

    owner_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))


class WebhookDelivery(Delivery):
    __tablename__ = "webhook_deliveries"

    webhook_id: Mapped[int] = mapped_column(ForeignKey("webhooks.id", ondelete="CASCADE"))


Index(None, Webhook.owner_id, Webhook.id)
