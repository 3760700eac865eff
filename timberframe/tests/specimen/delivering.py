"""A worker that delivers webhooks, to be killed: `python -m specimen.delivering MODE`."""

import sys

from specimen.config import settings
from specimen.models import Webhook
from timberframe.crud.events import EventRow
from timberframe.data.options import DatabaseOptions
from timberframe.data.session import open_database
from timberframe.jobs.process import run_worker
from timberframe.webhooks import delivery
from timberframe.webhooks.delivery import Courier, Outcome
from timberframe.webhooks.models import Subscription


class MovesFirst(Courier):
    """The control: it stores that an event was delivered, and then delivers it."""

    async def _call(self, webhook: Subscription, event: EventRow) -> Outcome:
        async with (
            open_database(DatabaseOptions.of(settings)) as database,
            database.transaction() as db,
        ):
            (await db.get_one(Webhook, webhook.id)).position = event.id
        return await super()._call(webhook, event)


def main() -> None:
    [mode] = sys.argv[1:]
    if mode == "moves-first":
        delivery.Courier = MovesFirst  # type: ignore[misc]
    from specimen.webhooks import WEBHOOK_JOBS

    run_worker(settings, {job.name: job for job in WEBHOOK_JOBS})


if __name__ == "__main__":
    main()
