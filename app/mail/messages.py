"""The messages that we send: one function for each, and its texts in `templates/`."""

from email.message import EmailMessage
from pathlib import Path

from timberframe.mail import MailOptions, MailTemplates

from app.core.config import settings

templates = MailTemplates(Path(__file__).with_name("templates"), MailOptions.of(settings))


def notification(recipient: str) -> EmailMessage:
    return templates.message("notification", to=recipient, subject=settings.PROJECT_NAME)
