"""Webhooks: what may be subscribed to, which URLs are taken, and secrets that are shown once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, ClassVar, TypeVar, cast

from pydantic_core import from_json, to_json
from sqlalchemy import Table, select
from sqlalchemy.ext.asyncio import AsyncSession

from timberframe.accounts.crud import Accounts
from timberframe.crud.base import CRUDBase
from timberframe.crud.events import latest_event
from timberframe.crud.policy import Principal
from timberframe.crud.results import Created
from timberframe.data.base import MAX_ID, SoftDeletable, utc_now
from timberframe.data.events import KINDS, event_name
from timberframe.data.query import Rows
from timberframe.data.unit_of_work import UnitOfWork
from timberframe.errors import NotFound, UnknownEvents, UrlRefused, WrongDeclaration
from timberframe.jobs import queue
from timberframe.schemas.webhook import Webhook, WebhookCreate, WebhookSecret, WebhookUpdate
from timberframe.webhooks.models import Delivery, Subscription
from timberframe.webhooks.options import WebhookOptions
from timberframe.webhooks.signatures import new_secret
from timberframe.webhooks.targets import check_url

# The names of the jobs. The key of each is an id, so that it runs once at a time for one webhook.
DELIVER, REDELIVER = "deliver_webhook", "redeliver_webhook"
OVERLAP = timedelta(hours=24)  # for which the previous secret still signs

SubscriptionT = TypeVar("SubscriptionT", bound=Subscription)


@dataclass(frozen=True)
class CheckedUrl:
    """A URL, and why it may not be called, if so."""

    url: str
    refusal: UrlRefused | None


class Webhooks(CRUDBase[SubscriptionT, WebhookCreate, WebhookUpdate]):
    """The crud of webhooks: their owner gets the events of `resources` that they may read.

    `deliveries` is the model of what was delivered.
    """

    schema = Webhook
    resources: ClassVar[Sequence[CRUDBase[Any, Any, Any]]]
    accounts: ClassVar[Accounts[Any, Any, Any]]
    deliveries: ClassVar[type[Delivery]]

    def __init__(self, model: type[SubscriptionT], options: WebhookOptions) -> None:
        super().__init__(model)
        self.options = options
        self.table = cast(Table, model.__table__)
        for each in self.resources:
            if not each.events:
                why = f"{type(each).__name__} has no events: state events = True there"
                raise WrongDeclaration(f"{type(self).__name__}: {why}")
        self.event_types: Mapping[str, CRUDBase[Any, Any, Any]] = {
            f"{event_name(each.model)}.{kind}": each
            for each in self.resources
            for kind in KINDS
            if kind != "restored" or issubclass(each.model, SoftDeletable)
        }

    async def create(
        self,
        db: Rows,
        *,
        obj_in: WebhookCreate,
        viewer: Principal | None,
        **values: Any,
    ) -> Created[SubscriptionT]:
        """The row with its secret, which nothing else shows; it gets the events from now on."""
        self.check_creator(viewer)
        self._check_events(obj_in.events)
        # Before the first statement: no connection is held while a name is looked up.
        await check_url(obj_in.url, self.options)
        values |= {"secret": new_secret(), "position": await latest_event(db)}
        created = await super().create(db, obj_in=obj_in, viewer=viewer, **values)
        shown = from_json(created.content) | {"secret": values["secret"]}
        return replace(created, content=to_json(shown).decode())

    async def update(
        self,
        db: UnitOfWork,
        *,
        db_obj: SubscriptionT,
        obj_in: WebhookUpdate,
        viewer: Principal | None = None,
        checked: CheckedUrl | None = None,
    ) -> SubscriptionT:
        """`checked` is the result for the new URL from before the transaction, if there is one.

        Deliveries continue at once if the URL is new, or `is_active` is true.
        """
        sent = obj_in.model_dump(exclude_unset=True)
        self._check_events(sent.get("events", ()))
        if "url" in sent and sent["url"] != db_obj.url:
            if checked is None or checked.url != sent["url"]:
                checked = await self.check_url(sent["url"])
            if checked.refusal:
                raise checked.refusal
        is_asked_for = "is_active" in sent or "url" in sent
        if is_asked_for and sent.get("is_active", db_obj.is_active):
            db_obj.failures, db_obj.paused_at, db_obj.pause_reason = 0, None, None
            await self._deliver_now(db, db_obj.id)
        return await super().update(db, db_obj=db_obj, obj_in=obj_in, viewer=viewer)

    async def check_url(self, url: str) -> CheckedUrl:
        """Look up the name, which may take as long as a call may."""
        try:
            await check_url(url, self.options)
        except UrlRefused as refusal:
            return CheckedUrl(url, refusal)
        return CheckedUrl(url, None)

    async def replace_secret(self, db: AsyncSession, *, db_obj: SubscriptionT) -> WebhookSecret:
        """Make a new secret, beside which the one before signs for `OVERLAP`."""
        secret, until = new_secret(), utc_now() + OVERLAP
        previous = {"previous_secret": db_obj.secret, "previous_secret_until": until}
        await self._set(db, db_obj, {"secret": secret, **previous})
        return WebhookSecret(secret=secret, previous_secret_until=until)

    async def redeliver(self, db: UnitOfWork, *, webhook: SubscriptionT, delivery_id: int) -> None:
        """Deliver an event again; raise `NotFound` if it is older than events are kept."""
        model, delivery_id = self.deliveries, min(delivery_id, MAX_ID)
        is_it = (model.id == delivery_id) & (model.webhook_id == webhook.id)
        if await db.scalar(select(model.id).where(is_it)) is None:
            raise NotFound("Delivery")
        await queue.insert_job(db, REDELIVER, {"delivery_id": delivery_id}, key=str(delivery_id))

    async def _deliver_now(self, db: UnitOfWork, id: int) -> None:
        if await queue.insert_job(db, DELIVER, {"webhook_id": id}, key=str(id)) is None:
            await queue.hasten(db, DELIVER, str(id))

    def _check_events(self, types: Sequence[str]) -> None:
        if any(each not in self.event_types for each in types):
            raise UnknownEvents(self.event_types)
