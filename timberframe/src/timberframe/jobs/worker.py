"""The worker: claims jobs, runs them, and keeps its leases while they run."""

import asyncio
import faulthandler
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self

import structlog
from cronsim import CronSim
from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError

from timberframe.crud.events import latest_event
from timberframe.data.base import utc_now
from timberframe.data.events import purge_events
from timberframe.data.failures import message_of
from timberframe.data.retries import retrying
from timberframe.data.session import Database
from timberframe.data.unit_of_work import UnitOfWork
from timberframe.data.waking import open_wake
from timberframe.jobs import queue
from timberframe.jobs.declaration import Job, Run
from timberframe.jobs.models import JobRecord, Status
from timberframe.settings import Settings

POLL_SECONDS = 1.0
PURGE_SECONDS = 3600
UNKNOWN_SECONDS = 60
REPORT_SECONDS = 60
DAY_SECONDS = 86400
EXIT_BLOCKED = 70
LATE = timedelta(seconds=5)  # by which a busy worker may look for ticks without missing one
CLOCK_CORRECTION = timedelta(hours=3)  # as in cron

log = structlog.get_logger()


@dataclass(frozen=True)
class JobOptions:
    """Times are in seconds."""

    concurrency: int = 10
    lease: float = 30
    stall: float = 60  # for which a job may block the event loop of its worker
    max_deaths: int = 3  # of workers that died while they ran a job: then it is parked
    keep: float = 7 * DAY_SECONDS
    keep_events_days: int = 7
    grace: float = 30  # for jobs that run when the worker is stopped

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls(
            # One connection listens, and one renews leases.
            concurrency=min(settings.JOBS_CONCURRENCY, max(1, settings.DATABASE_POOL_SIZE - 2)),
            lease=settings.JOBS_LEASE_SECONDS,
            stall=2 * settings.JOBS_LEASE_SECONDS,
            keep=settings.JOBS_DAYS * DAY_SECONDS,
            keep_events_days=settings.EVENTS_DAYS,
            grace=settings.GRACEFUL_TIMEOUT_SECONDS,
        )


class Worker:
    """Runs the jobs of one database until it is stopped; any number of workers may."""

    def __init__(
        self, database: Database, jobs: Mapping[str, Job[Any]], options: JobOptions
    ) -> None:
        self._database = database
        self._jobs = jobs
        self._options = options
        self._running: dict[int, asyncio.Task[None]] = {}
        self._stopping = asyncio.Event()
        self._slot_freed = asyncio.Event()
        self._ticked: dict[str, datetime] = {}
        self._ended: Counter[str] = Counter()  # since the last line about the queue
        self._told: dict[str, int] = {}  # the newest event that each job on events was enqueued for
        self._beat_at = time.monotonic()

    def stop(self) -> None:
        """Claim no more; `run` returns when the running jobs are done or given back."""
        self._stopping.set()

    async def run(self) -> None:
        beats = asyncio.create_task(self._keep_up())
        watchdog = threading.Thread(target=self._watch, daemon=True)
        watchdog.start()
        try:
            while not self._stopping.is_set():
                try:
                    await self._work()
                except queue.AWAY as away:
                    log.warning("worker_waits", reason=_message(away))
                    await _first(self._stopping.wait(), asyncio.sleep(POLL_SECONDS))
        finally:
            self._stopping.set()  # the watchdog ends too
            await self._finish_running()
            beats.cancel()
            await asyncio.wait([beats])

    async def run_due(self) -> list[int]:
        """Run what is due, and what that enqueues, until nothing is; return the ids."""
        done: list[int] = []
        while claims := await self._claim(1):
            [claim] = claims
            await self._run(claim)
            done.append(claim.id)
        return done

    async def run_one(self, job_id: int) -> None:
        """Run this job now, if nobody else does."""
        for claim in await self._claim(1, job_id=job_id):
            await self._run(claim)

    async def _work(self) -> None:
        async with open_wake(self._database, JobRecord.__tablename__) as wake:
            has_more = False
            while not self._stopping.is_set():
                self._slot_freed.clear()
                free = self._options.concurrency - len(self._running)
                if not free:
                    await _first(self._slot_freed.wait(), self._stopping.wait())
                    continue
                # Look before claiming: on SQLite a claim takes the write lock.
                seconds = 0 if has_more else await self._seconds_to_next()
                if seconds > 0:
                    await _first(wake.wait(seconds), self._stopping.wait())
                    continue
                claims = await self._claim(free)
                has_more = len(claims) == free
                for claim in claims:
                    if not claim.deaths:
                        self._start(claim)
                if suspects := [claim for claim in claims if claim.deaths]:
                    await self._run_alone(*suspects)

    async def _seconds_to_next(self) -> float:
        seconds = await queue.seconds_to_next(self._database, self._jobs)
        return POLL_SECONDS if seconds is None else min(POLL_SECONDS, seconds)

    async def _claim(self, count: int, *, job_id: int | None = None) -> list[queue.Claim]:
        lease = self._options.lease
        return await queue.claim(
            self._database, self._jobs, count=count, lease=lease, job_id=job_id
        )

    def _start(self, claim: queue.Claim) -> None:
        self._running[claim.id] = asyncio.create_task(self._run_in_slot(claim))

    async def _run_alone(self, suspect: queue.Claim, *others: queue.Claim) -> None:
        """Run a job that was there when a worker died while nothing else runs.

        If it was the cause, it takes no other job with it, and no other is parked for it.
        """
        for other in others:
            await self._give_back(other)
        before = list(self._running.values())
        self._running[suspect.id] = asyncio.create_task(self._run_in_slot(suspect, after=before))
        while suspect.id in self._running and not self._stopping.is_set():
            self._slot_freed.clear()
            await _first(self._slot_freed.wait(), self._stopping.wait())

    async def _run_in_slot(
        self, claim: queue.Claim, *, after: Sequence[asyncio.Task[None]] = ()
    ) -> None:
        try:
            if after:
                await asyncio.wait(after)
            await self._run(claim)
        except asyncio.CancelledError:  # it had not begun
            await self._give_back(claim)
        finally:
            del self._running[claim.id]
            self._slot_freed.set()

    async def _run(self, claim: queue.Claim) -> None:
        job = self._jobs[claim.name]
        run = Run(claim.id, claim.attempt, self._database, job.is_kept)
        bound = log.bind(job=claim.name, id=claim.id, attempt=claim.attempt)
        began = time.monotonic()
        try:
            try:
                payload = job.payload.model_validate(claim.payload)
            except ValidationError as invalid:
                what = f"the payload does not fit the job: {_reason(invalid)}"
                await self._fail(claim, what, retry_in=None)
                self._ended["failed"] += 1
                bound.error("job_dead", reason=what)
                return
            try:
                async with asyncio.timeout(job.timeout) as limit:
                    await job.function(run, **job.arguments(payload))
            except TimeoutError:
                if not limit.expired():
                    raise
                raise TimeLimit(f"it took longer than {job.timeout:g} s") from None
            if not run.is_done:
                async with run.transaction():
                    pass
        except queue.LeaseLost:
            bound.warning("job_lost", reason="another worker has taken it over")
        except asyncio.CancelledError:
            await self._give_back(claim)
            bound.info("job_given_back")
        except Exception as failed:
            if run.is_done:  # and stays so: what it was to do is committed
                self._ended["done"] += 1
                bound.error("job_done", reason="it failed after its transaction", exc_info=True)
                return
            is_last = claim.attempt >= job.max_attempts or getattr(failed, "is_permanent", False)
            retry_in = None if is_last else job.backoff_after(claim.attempt)
            reason = f"{type(failed).__name__}: {failed}"
            with suppress(queue.LeaseLost):
                await self._fail(claim, reason, retry_in)
            self._ended["failed" if is_last else "retried"] += 1
            event = "job_dead" if retry_in is None else "job_failed"
            bound.error(event, retry_in=retry_in, exc_info=True)
        else:
            self._ended["done"] += 1
            bound.info("job_done", duration_ms=round((time.monotonic() - began) * 1000, 1))

    async def _give_back(self, claim: queue.Claim) -> None:
        with suppress(queue.LeaseLost):
            await self._change(lambda db: queue.give_back(db, claim.id, claim.attempt))

    async def _fail(self, claim: queue.Claim, error: str, retry_in: float | None) -> None:
        await self._change(
            lambda db: queue.fail(db, claim.id, claim.attempt, error=error, retry_in=retry_in)
        )

    async def _change(self, change: Callable[[UnitOfWork], Awaitable[None]]) -> None:
        """Store what became of a job; while the database is away, wait for it.

        Otherwise the job would be taken over as that of a worker that died.
        """

        async def attempt() -> None:
            async with self._database.transaction() as db:
                await change(db)

        while True:
            try:
                return await retrying(attempt)
            except queue.AWAY:
                if self._stopping.is_set():
                    raise
                await asyncio.sleep(POLL_SECONDS)

    async def _keep_up(self) -> None:
        """Renew leases, take over those of dead workers, enqueue ticks, report, and purge."""
        renewed = purged = looked = float("-inf")
        reported = time.monotonic()
        while True:
            self._beat_at = now = time.monotonic()
            try:
                await self._enqueue_ticks(utc_now())
                await self._enqueue_on_events()
                if now - renewed >= self._options.lease / 3:
                    if self._running:
                        await queue.renew(
                            self._database, list(self._running), lease=self._options.lease
                        )
                    for job_id, status in await self._take_over():
                        self._ended["failed" if status == Status.DEAD else "retried"] += 1
                        log.error("job_taken_over", id=job_id, status=status)
                    renewed = now
                if now - looked >= UNKNOWN_SECONDS:
                    if names := await queue.unknown_names(self._database, self._jobs):
                        log.warning("jobs_unknown", names=names)
                    looked = now
                if now - reported >= REPORT_SECONDS:
                    await self._report()
                    reported = now
                # A batch at a time: nobody waits for a purge.
                is_due = now - purged >= PURGE_SECONDS
                if is_due and not await self._purge():
                    purged = now
            except queue.AWAY as away:
                log.warning("worker_waits", reason=_message(away))
            await asyncio.sleep(min(1.0, self._options.lease / 3))

    async def _purge(self) -> bool:
        """Delete a batch of what is kept no longer; return whether there was any."""
        jobs = await queue.purge(self._database, age=self._options.keep)
        async with self._database.transaction() as db:
            return bool(await purge_events(db, days=self._options.keep_events_days) or jobs)

    async def _report(self) -> None:
        """Log how the queue stands, and what this worker has done since the last line.

        There is no line if nothing waits and nothing has ended.
        """
        backlog = await queue.read_backlog(self._database)
        ended, self._ended = self._ended, Counter()
        if backlog.queued or ended:
            log.info(
                "queue",
                queued=backlog.queued,
                oldest_seconds=backlog.oldest_seconds,
                **{outcome: ended[outcome] for outcome in ("done", "failed", "retried")},
            )

    async def _take_over(self) -> list[tuple[int, str]]:
        return await queue.take_over(self._database, max_deaths=self._options.max_deaths)

    async def _enqueue_ticks(self, now: datetime) -> None:
        """Enqueue the new ticks of each schedule; they are unique, however many workers do.

        Of those that were missed while no worker ran, only the newest is made up for. If the clock
        is set back, ticks pause until it is where it was, so none is repeated; but a clock that was
        hours ahead was wrong, and holds nothing up.
        """
        for job in self._jobs.values():
            if not job.schedule:
                continue
            if job.name not in self._ticked:
                self._ticked[job.name] = await queue.last_tick(self._database, job.name) or now
            if self._ticked[job.name] - now > CLOCK_CORRECTION:
                self._ticked[job.name] = now
            for tick in _ticks(job.schedule, after=self._ticked[job.name], until=now):
                await queue.insert_job(
                    self._database, job.name, {}, priority=job.priority, tick=tick
                )
                self._ticked[job.name] = tick

    async def _enqueue_on_events(self) -> None:
        """Enqueue the jobs that run on events once there are newer ones, and once at the start.

        The key is taken while such a job waits or runs, which may have read the events already:
        then it is tried again the next time.
        """
        jobs = [job for job in self._jobs.values() if job.on_events]
        newest = await latest_event(self._database) if jobs else 0
        for job in jobs:
            is_new = newest > self._told.get(job.name, -1)
            if is_new and await job.set(key=job.name).enqueue(self._database):
                self._told[job.name] = newest

    def _watch(self) -> None:
        """End the process if a job blocks the event loop for too long.

        Another worker takes over what ran here; a job that does so again and again is parked.
        """
        while not self._stopping.is_set():
            time.sleep(1)
            if time.monotonic() - self._beat_at > self._options.stall:
                faulthandler.dump_traceback(sys.stderr)
                os._exit(EXIT_BLOCKED)

    async def _finish_running(self) -> None:
        if running := list(self._running.values()):
            _, late = await asyncio.wait(running, timeout=self._options.grace)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)


class TimeLimit(Exception):
    """A job took longer than it may."""


def _ticks(schedule: str, *, after: datetime, until: datetime) -> Iterable[datetime]:
    """In their order; of those that are past by more than `LATE` only the newest."""
    ticks: list[datetime] = []
    for tick in CronSim(schedule, until, reverse=True):
        if tick <= after or (ticks and until - tick > LATE):
            break
        ticks.append(tick)
    return reversed(ticks)


def _message(away: BaseException) -> str:
    return message_of(away) if isinstance(away, DBAPIError) else f"{type(away).__name__}: {away}"


def _reason(invalid: ValidationError) -> str:
    first = invalid.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


async def _first(*waits: Any) -> None:
    """Return when one of them does; the others are cancelled."""
    tasks = [asyncio.ensure_future(each) for each in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
