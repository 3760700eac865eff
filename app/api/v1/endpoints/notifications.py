"""Telling people something by mail."""

from typing import Annotated

from fastapi import Query
from timberframe.errors import NotPermitted
from timberframe.routes import DbSession, Router, problems, superuser_only
from timberframe.schemas.fields import Email

from app import schemas
from app.jobs import mail_notification

router = Router()


@router.post("/", dependencies=[superuser_only], responses=problems(NotPermitted))
async def send_notification(
    db: DbSession, email: Annotated[Email, Query(description="To whom")]
) -> schemas.Message:
    """Mail somebody that their registration was successful, for superusers."""
    await mail_notification.enqueue(db, email=email)
    return schemas.Message(message="Notification will be sent")
