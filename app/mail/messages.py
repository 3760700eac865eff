"""The messages that we send: one function for each, and its texts in `templates/`."""

from email.message import EmailMessage
from pathlib import Path

from timberframe.mail import MailOptions, MailTemplates

from app.core.config import settings

templates = MailTemplates(Path(__file__).with_name("templates"), MailOptions.of(settings))


def notification(recipient: str) -> EmailMessage:
    return templates.message("notification", to=recipient, subject=settings.PROJECT_NAME)


def webhook_paused(recipient: str, webhook_id: int, reason: str) -> EmailMessage:
    subject = f"{settings.PROJECT_NAME}: a webhook was paused"
    return templates.message(
        "webhook_paused", to=recipient, subject=subject, webhook_id=webhook_id, reason=reason
    )
