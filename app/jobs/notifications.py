"""Telling people something by mail, once it is committed that they are to be told."""

from timberframe.jobs import Run, job
from timberframe.mail import MailOptions, send

from app.core.config import settings
from app.mail.messages import notification


@job(max_attempts=12)  # over half a day, as the pauses grow
async def mail_notification(run: Run, email: str) -> None:
    await send(notification(email), MailOptions.of(settings), message_id=f"job-{run.id}")
