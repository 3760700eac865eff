"""Declares jobs: `@job` makes one of a function, and `enqueue` puts it into the queue."""

import inspect
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Concatenate, Generic, ParamSpec, Self, get_args, get_type_hints

from cronsim import CronSim, CronSimError
from pydantic import BaseModel, ConfigDict, SecretBytes, SecretStr, create_model

from timberframe.data.base import utc_now
from timberframe.data.query import Rows
from timberframe.data.session import Database
from timberframe.data.unit_of_work import UnitOfWork
from timberframe.jobs import queue

P = ParamSpec("P")

MAX_BACKOFF_SECONDS = 6 * 3600


@dataclass
class Run:
    """One attempt at a job: what its function is called with.

    `id` is the same in all attempts: give it to whoever must recognise a second one.
    """

    id: int
    attempt: int  # from 1 on
    database: Database
    is_kept: bool = True  # its record, once it is done
    is_done: bool = field(default=False, init=False)
    _is_finished: bool = field(default=False, init=False, repr=False)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[UnitOfWork]:
        """A unit of work that is committed together with the job's being done, or not at all.

        Open it once, as the last thing the job does. Raise `queue.LeaseLost` at its end if another
        worker has taken the job over: then nothing is committed.
        """
        if self.is_done:
            raise RuntimeError("the job is done already: it has one transaction")
        async with self.database.transaction() as db:
            yield db
            if not self._is_finished:
                await self.finish(db)
        self.is_done = True

    async def finish(self, db: UnitOfWork) -> None:
        """Mark the job as done before its transaction ends, which frees its key for another.

        Whoever enqueues one with that key meanwhile waits for the commit. So a job that looks for
        more work after this, and enqueues itself if there is any, misses none.
        """
        await queue.finish(db, self.id, self.attempt, is_kept=self.is_kept)
        self._is_finished = True


@dataclass(frozen=True)
class Job(Generic[P]):
    """What `@job` makes of a function; times are in seconds."""

    function: Callable[Concatenate[Run, P], Awaitable[None]]
    name: str
    payload: type[BaseModel]  # of the function's parameters after the first
    max_attempts: int
    timeout: float
    backoff: float
    priority: int
    schedule: str | None
    on_events: bool
    is_kept: bool
    delay: float = 0
    key: str | None = None

    async def enqueue(self, db: Rows, *args: P.args, **payload: P.kwargs) -> int | None:
        """Put the job into the queue, in the transaction of `db`: a rollback drops it.

        Return its id, or None if a job with the same `key` waits or runs already. Raise
        `pydantic.ValidationError` for a payload that the function does not take.
        """
        if args:
            raise TypeError(f"{self.name}.enqueue takes its payload by name")
        values = self.payload(**payload).model_dump(mode="json")
        return await queue.insert_job(
            db, self.name, values, priority=self.priority, delay=self.delay, key=self.key
        )

    def set(
        self,
        *,
        delay: timedelta = timedelta(),
        key: str | None = None,
        priority: int | None = None,
    ) -> Self:
        """The job with other options: `await remind.set(delay=timedelta(days=1)).enqueue(…)`.

        A `key` is free again when the job is done, or parked.
        """
        own = self.priority if priority is None else priority
        return replace(self, delay=delay.total_seconds(), key=key, priority=own)

    def backoff_after(self, attempt: int) -> float:
        """Twice as long after each attempt; a random part of it spreads those that fail at once."""
        longest: float = min(self.backoff * 2 ** (attempt - 1), MAX_BACKOFF_SECONDS)
        return random.uniform(0.75, 1.25) * longest  # noqa: S311 - no secret

    def arguments(self, payload: BaseModel) -> Any:
        """What the function is called with: the validated values, as it declares them."""
        return {name: getattr(payload, name) for name in type(payload).model_fields}


def job(
    *,
    max_attempts: int = 5,
    timeout: timedelta = timedelta(minutes=5),
    backoff: timedelta = timedelta(seconds=10),
    priority: int = 0,
    schedule: str | None = None,
    on_events: bool = False,
    is_kept: bool = True,
) -> Callable[[Callable[Concatenate[Run, P], Awaitable[None]]], Job[P]]:
    """Make a job of `async def name(run: Run, …)`, and list it in the application's `jobs`.

    It is tried up to `max_attempts` times, each for up to `timeout`; it waits for `backoff` after
    the first failure, and then twice as long each time. An exception whose `is_permanent` is true,
    such as that of a mailbox that does not exist, parks it at once. The lowest `priority` goes
    first. With a `schedule` (as in cron, in UTC) it also runs at these times, and takes no payload.
    With `on_events` it runs soon after there are new events of resources, and when a worker starts.
    One that runs often needs no record of each time it is done: `is_kept=False`.
    """

    def declare(function: Callable[Concatenate[Run, P], Awaitable[None]]) -> Job[P]:
        name = getattr(function, "__name__", "")
        declared = Job(
            function,
            name,
            _payload_of(function, name),
            max_attempts,
            timeout.total_seconds(),
            backoff.total_seconds(),
            priority,
            schedule,
            on_events,
            is_kept,
        )
        required = [
            name for name, each in declared.payload.model_fields.items() if each.is_required()
        ]
        for name, field_info in declared.payload.model_fields.items():
            if _is_secret(field_info.annotation):
                raise TypeError(
                    f"{declared.name}: {name} would be stored as it is, and shown to operators:"
                    " give the job the id of a row instead"
                )
        if required and (schedule or on_events):
            by = "a schedule" if schedule else "on_events"
            raise TypeError(f"{declared.name}: with {by} nobody gives it {required[0]}")
        if schedule:
            try:
                CronSim(schedule, utc_now())
            except CronSimError as wrong:
                raise ValueError(f"{declared.name}: schedule {schedule!r}: {wrong}") from None
        return declared

    return declare


def _payload_of(function: Callable[..., Any], name: str) -> type[BaseModel]:
    hints = get_type_hints(function, include_extras=True)
    _, *parameters = inspect.signature(function).parameters.values()
    fields: dict[str, Any] = {
        each.name: (
            hints[each.name],
            ... if each.default is inspect.Parameter.empty else each.default,
        )
        for each in parameters
    }
    return create_model(name, __config__=ConfigDict(extra="forbid"), **fields)


def _is_secret(annotation: Any) -> bool:
    secrets = (SecretStr, SecretBytes)
    return annotation in secrets or any(map(_is_secret, get_args(annotation)))
