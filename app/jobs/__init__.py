"""The background jobs: `main.py` gives `JOBS` to the workers."""

from app.jobs.notifications import mail_notification
from app.jobs.webhooks import WEBHOOK_JOBS

__all__ = ["JOBS", "mail_notification"]

JOBS = (mail_notification, *WEBHOOK_JOBS)
