"""Workers that deliver webhooks, to be killed: as they are, and that of a control."""

from typing import Any

from pydantic import SecretStr

from specimen.config import Settings
from specimen.crud import webhook_crud
from specimen.models import Webhook
from specimen.webhooks import note_pause
from timberframe.crud.events import EventRow
from timberframe.jobs import Run
from timberframe.jobs.process import run_worker
from timberframe.webhooks import WebhookOptions, delivery, webhook_jobs
from timberframe.webhooks.delivery import Courier, Outcome
from timberframe.webhooks.models import Subscription


class MovesFirst(Courier):
    """The control: it stores that an event was delivered, and then delivers it."""

    async def _deliver_next(self, run: Run, *arguments: Any) -> None:
        self._database = run.database
        await super()._deliver_next(run, *arguments)

    async def _call(self, webhook: Subscription, event: EventRow) -> Outcome:
        async with self._database.transaction() as db:
            (await db.get_one(Webhook, webhook.id)).position = event.id
        return await super()._call(webhook, event)


def work(courier: type[Courier], url: str) -> None:
    settings = Settings(
        DATABASE_URL=SecretStr(url),
        JOBS_LEASE_SECONDS=1,
        WEBHOOK_ALLOWED_NETWORKS=["127.0.0.0/8"],
    )
    webhook_crud.options = WebhookOptions.of(settings)
    delivery.Courier = courier  # type: ignore[misc]  # in this process alone
    jobs = webhook_jobs(webhook_crud, when_paused=note_pause)
    run_worker(settings, {job.name: job for job in jobs})
