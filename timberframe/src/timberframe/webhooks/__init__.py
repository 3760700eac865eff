"""Webhooks: signed calls of URLs that users choose, none of which reaches a network of ours."""

from timberframe.webhooks.crud import CheckedUrl, Webhooks
from timberframe.webhooks.delivery import webhook_jobs
from timberframe.webhooks.models import Delivery, Subscription
from timberframe.webhooks.options import WebhookOptions

__all__ = ["CheckedUrl", "Delivery", "Subscription", "WebhookOptions", "Webhooks", "webhook_jobs"]
