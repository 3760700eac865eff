"""Telling people something by mail."""

from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Depends, Query

from app import schemas
from app.api.errors import problems
from app.api.routing import StrictRoute
from app.core.errors import NotPermitted
from app.dependencies import DbSession, get_current_superuser
from app.mail.messages import notification
from app.mail.send import send_mail
from app.schemas.base import Email

router = APIRouter(route_class=StrictRoute)


@router.post("/", dependencies=[Depends(get_current_superuser)], responses=problems(NotPermitted))
async def send_notification(
    db: DbSession,
    email: Annotated[Email, Query(description="To whom")],
    background_tasks: BackgroundTasks,
) -> schemas.Message:
    """Mail somebody that their registration was successful, for superusers."""
    # Of `db` only the Idempotency-Key is wanted, so that a retry mails nobody twice.
    background_tasks.add_task(send_mail, notification(email))
    return schemas.Message(message="Notification will be sent")
