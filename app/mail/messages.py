"""The messages that we send: one function for each."""

from email.message import EmailMessage
from email.policy import SMTPUTF8

from app.core.config import settings


def notification(recipient: str) -> EmailMessage:
    return _message(recipient, subject=settings.PROJECT_NAME, text="Registration successful\n")


def _message(recipient: str, *, subject: str, text: str) -> EmailMessage:
    message = EmailMessage(SMTPUTF8)  # addresses may hold any letters (RFC 6531)
    message["From"] = settings.MAIL_FROM
    message["To"] = recipient
    message["Subject"] = subject
    message.set_content(text)
    return message
