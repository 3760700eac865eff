"""Telling people something by mail."""

from typing import Annotated

from fastapi import BackgroundTasks, Query
from timberframe.errors import NotPermitted
from timberframe.mail import MailOptions, send_or_log
from timberframe.routes import DbSession, Router, problems, superuser_only
from timberframe.schemas.fields import Email

from app import schemas
from app.core.config import settings
from app.mail.messages import notification

router = Router()


@router.post("/", dependencies=[superuser_only], responses=problems(NotPermitted))
async def send_notification(
    db: DbSession,
    email: Annotated[Email, Query(description="To whom")],
    background_tasks: BackgroundTasks,
) -> schemas.Message:
    """Mail somebody that their registration was successful, for superusers."""
    # `db` is here for its Idempotency-Key only, so that a retry does not mail anybody twice.
    background_tasks.add_task(send_or_log, notification(email), MailOptions.of(settings))
    return schemas.Message(message="Notification will be sent")
