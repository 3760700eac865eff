"""Webhooks: the frame delivers events, and their owner is told when it gives up."""

from timberframe.jobs import Run, job
from timberframe.mail import MailOptions, send
from timberframe.webhooks import webhook_jobs

from app.core.config import settings
from app.crud import webhook_crud
from app.mail.messages import webhook_paused
from app.models import User, Webhook


@job(max_attempts=12)
async def mail_webhook_paused(run: Run, webhook_id: int) -> None:
    async with run.database.reading() as db:
        webhook = await db.get(Webhook, webhook_id)
        owner = await db.get(User, webhook.owner_id) if webhook else None
    if webhook and owner and webhook.paused_at:
        message = webhook_paused(owner.email, webhook.id, webhook.pause_reason or "")
        await send(message, MailOptions.of(settings), message_id=f"job-{run.id}")


WEBHOOK_JOBS = (mail_webhook_paused, *webhook_jobs(webhook_crud, when_paused=mail_webhook_paused))
