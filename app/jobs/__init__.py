"""The background jobs: `main.py` gives `JOBS` to the workers."""

from app.jobs.notifications import mail_notification

__all__ = ["JOBS", "mail_notification"]

JOBS = (mail_notification,)
