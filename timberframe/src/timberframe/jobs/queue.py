"""The statements that work the queue, each a transaction or a part of the caller's."""

import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from sqlalchemy import (
    ColumnElement,
    Double,
    Integer,
    Table,
    bindparam,
    case,
    delete,
    func,
    literal,
    select,
    update,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from timberframe.data.column_types import UTCDateTime
from timberframe.data.query import Rows
from timberframe.data.retries import TransactionConflict
from timberframe.data.session import Database
from timberframe.data.unit_of_work import UnitOfWork
from timberframe.errors import Unavailable
from timberframe.jobs.models import JobRecord, Status
from timberframe.jobs.schemas import MAX_COUNTED, Backlog

MAX_ERROR_LENGTH = 1000
PURGED_AT_ONCE = 1000
LATELY_SECONDS = 3600

# The database cannot be reached, or has not been migrated: both may end.
AWAY = (Unavailable, TransactionConflict, DBAPIError, sqlite3.Error, OSError)

_JOBS = cast(Table, JobRecord.__table__)


class FromNow(FunctionElement[datetime]):
    """The database's clock plus some seconds: clocks of several machines differ."""

    type = UTCDateTime()
    inherit_cache = True

    def __init__(self, seconds: Any) -> None:
        super().__init__(sql_cast(seconds, Double))


@compiles(FromNow, "postgresql")
def _from_now_on_postgresql(element: Any, compiler: Any, **options: Any) -> str:
    return (
        f"clock_timestamp() + make_interval(secs => {compiler.process(element.clauses, **options)})"
    )


@compiles(FromNow, "sqlite")
def _from_now_on_sqlite(element: Any, compiler: Any, **options: Any) -> str:
    seconds = compiler.process(element.clauses, **options)
    return f"strftime('%Y-%m-%d %H:%M:%f', 'now', printf('%+.3f seconds', {seconds})) || '000'"


class WakeWorkers(FunctionElement[None]):
    """Notifies workers on commit; on SQLite they watch the file."""

    inherit_cache = True


@compiles(WakeWorkers, "postgresql")
def _notify(element: Any, compiler: Any, **options: Any) -> str:
    return f"pg_notify('{_JOBS.name}', '')"


@compiles(WakeWorkers, "sqlite")
def _notify_nobody(element: Any, compiler: Any, **options: Any) -> str:
    return "NULL"


class LeaseLost(Exception):
    """Another worker has taken the job over: this one must not commit its effects."""


@dataclass(frozen=True)
class Claim:
    id: int
    name: str
    payload: dict[str, Any]
    attempt: int
    deaths: int  # how often a worker died that ran it, perhaps beside others


_VALUES = {
    "name": bindparam("name"),
    "payload": bindparam("payload", type_=_JOBS.c.payload.type),
    "status": literal(Status.QUEUED.value),
    "priority": bindparam("priority"),
    "key": bindparam("key"),
    "tick": bindparam("tick", type_=UTCDateTime()),
    "attempts": 0,
    "deaths": 0,
    "run_at": FromNow(bindparam("delay")),
    "created_at": FromNow(0),
}


def _insertion(dialect: str) -> Any:
    new = {"postgresql": postgresql, "sqlite": sqlite}[dialect].insert(_JOBS).values(_VALUES)
    return new.on_conflict_do_nothing().returning(_JOBS.c.id, WakeWorkers())


_INSERTIONS = {dialect: _insertion(dialect) for dialect in ("postgresql", "sqlite")}


async def insert_job(
    db: Rows,
    name: str,
    payload: dict[str, Any],
    *,
    priority: int = 0,
    delay: float = 0,
    key: str | None = None,
    tick: datetime | None = None,
) -> int | None:
    """Insert a job by one statement; None if the name has this tick, or the key in an open job."""
    engine = db.engine if isinstance(db, Database) else cast(UnitOfWork, db).get_bind()
    dialect = engine.dialect.name
    rows = await db.write(
        ("job", dialect),
        lambda: _INSERTIONS[dialect],
        {
            "name": name,
            "payload": payload,
            "priority": priority,
            "delay": delay,
            "key": key,
            "tick": tick,
        },
    )
    return rows[0][0] if rows else None


def _claiming(*conditions: Any) -> Any:
    due = (
        select(_JOBS.c.id)
        .where(
            _JOBS.c.status == Status.QUEUED,
            _JOBS.c.run_at <= FromNow(0),
            _JOBS.c.name.in_(bindparam("names", expanding=True)),
            *conditions,
        )
        .order_by(_JOBS.c.priority, _JOBS.c.run_at, _JOBS.c.id)
        .limit(bindparam("count"))
        .with_for_update(skip_locked=True)
        .cte("due")
    )
    return (
        update(_JOBS)
        .where(_JOBS.c.id.in_(select(due.c.id)))
        .values(
            status=Status.RUNNING.value,
            attempts=_JOBS.c.attempts + 1,
            leased_until=FromNow(bindparam("lease")),
        )
        .returning(*(_JOBS.c.id, _JOBS.c.name, _JOBS.c.payload, _JOBS.c.attempts, _JOBS.c.deaths))
    )


_CLAIM, _CLAIM_ONE = _claiming(), _claiming(_JOBS.c.id == bindparam("job_id"))


async def claim(
    database: Database,
    names: Collection[str],
    *,
    count: int,
    lease: float,
    job_id: int | None = None,
) -> list[Claim]:
    """Take up to `count` due jobs, which no other worker gets for `lease` seconds; or this one."""
    values: dict[str, Any] = {"names": list(names), "count": count, "lease": lease}
    statement = _CLAIM if job_id is None else _CLAIM_ONE
    if job_id is not None:
        values["job_id"] = job_id
    async with database.transaction() as db:
        rows = (await db.execute(statement, values)).all()
    return [Claim(*row) for row in rows]


_SECONDS_TO_NEXT = select(func.min(_JOBS.c.run_at), FromNow(0)).where(
    _JOBS.c.status == Status.QUEUED, _JOBS.c.name.in_(bindparam("names", expanding=True))
)


async def seconds_to_next(database: Database, names: Collection[str]) -> float | None:
    """How long until the next job is due: 0 or less if one is; None without any."""
    async with database.statements() as db:
        next_at, now = (await db.execute(_SECONDS_TO_NEXT, {"names": list(names)})).one()
    return (next_at - now).total_seconds() if next_at else None


def _count(*conditions: ColumnElement[bool]) -> Any:
    some = select(literal(1, Integer)).select_from(_JOBS).where(*conditions).limit(MAX_COUNTED)
    return select(func.count()).select_from(some.subquery()).scalar_subquery()


def _moment(seconds: Any) -> Any:
    """In a subquery it is computed once, so that an index can find the rows before or after it."""
    return select(FromNow(seconds)).scalar_subquery()


def _has(status: Status) -> ColumnElement[bool]:
    """Written into the statement: a plan for any status could use none of the partial indexes."""
    return _JOBS.c.status == literal(status.value, literal_execute=True)


_BACKLOG = select(
    _count(_has(Status.QUEUED), _JOBS.c.run_at <= _moment(0)),
    select(func.min(_JOBS.c.run_at)).where(_has(Status.QUEUED)).scalar_subquery(),
    _moment(0),
    _count(_has(Status.DEAD), _JOBS.c.finished_at >= _moment(-LATELY_SECONDS)),
    _count(_JOBS.c.finished_at >= _moment(-60)),
)


async def read_backlog(database: Database) -> Backlog:
    """How the queue stands, by a few ranges of indexes, however many jobs there are."""
    async with database.statements() as db:
        queued, oldest, now, failed, ended = (await db.execute(_BACKLOG)).one()
    seconds = max((now - oldest).total_seconds(), 0) if oldest else 0
    return Backlog(
        queued=queued, oldest_seconds=round(seconds, 1), ended_per_minute=ended, failed=failed
    )


def _of_attempt() -> Any:
    """Whoever has lost the lease has another attempt's number, and changes nothing."""
    return (
        (_JOBS.c.id == bindparam("job_id"))
        & (_JOBS.c.attempts == bindparam("attempt"))
        & (_JOBS.c.status == Status.RUNNING)
    )


_FINISH = (
    update(_JOBS)
    .where(_of_attempt())
    .values(
        status=Status.DONE.value,
        finished_at=FromNow(0),
        leased_until=None,
        error=None,
    )
)
_FORGET = delete(_JOBS).where(_of_attempt())


async def finish(db: UnitOfWork, job_id: int, attempt: int, *, is_kept: bool = True) -> None:
    """Mark the job as done, or delete it; raise `LeaseLost` if this attempt has lost it."""
    await _change(db, _FINISH if is_kept else _FORGET, job_id, attempt)


_FAIL = (
    update(_JOBS)
    .where(_of_attempt())
    .values(
        status=bindparam("new_status"),
        run_at=FromNow(bindparam("delay")),
        finished_at=case((literal(True) == bindparam("is_dead"), FromNow(0)), else_=None),
        leased_until=None,
        error=bindparam("new_error"),
    )
)


async def fail(
    db: UnitOfWork, job_id: int, attempt: int, *, error: str, retry_in: float | None
) -> None:
    """Store why the attempt failed; try again in `retry_in` seconds, or park the job as dead."""
    await _change(
        db,
        _FAIL,
        job_id,
        attempt,
        new_status=(Status.DEAD if retry_in is None else Status.QUEUED).value,
        is_dead=retry_in is None,
        delay=retry_in or 0,
        new_error=error[:MAX_ERROR_LENGTH],
    )


_GIVE_BACK = (
    update(_JOBS)
    .where(_of_attempt())
    .values(
        status=Status.QUEUED.value,
        attempts=_JOBS.c.attempts - 1,
        leased_until=None,
    )
)


async def give_back(db: UnitOfWork, job_id: int, attempt: int) -> None:
    """Let another worker have the job at once: this one stops."""
    await _change(db, _GIVE_BACK, job_id, attempt)


async def _change(db: UnitOfWork, statement: Any, job_id: int, attempt: int, **values: Any) -> None:
    result: Any = await db.execute(statement, {"job_id": job_id, "attempt": attempt, **values})
    if not result.rowcount:
        raise LeaseLost(f"job {job_id}, attempt {attempt}")


_IS_RUNNING = (_JOBS.c.status == Status.RUNNING) & (_JOBS.c.leased_until >= FromNow(0))
_RETRY = (
    update(_JOBS)
    .where(_JOBS.c.id == bindparam("job_id"), ~_IS_RUNNING, _JOBS.c.status != Status.DONE)
    .values(
        status=Status.QUEUED.value,
        # Another may have the key by now.
        key=case((_JOBS.c.status == Status.DEAD, None), else_=_JOBS.c.key),
        attempts=0,
        deaths=0,
        run_at=FromNow(0),
        leased_until=None,
        finished_at=None,
    )
    .returning(_JOBS.c.id, WakeWorkers())
)


async def retry(db: UnitOfWork, job_id: int) -> bool:
    """Queue a job again, now and with all its attempts; False if it is done, running or gone."""
    return (await db.execute(_RETRY, {"job_id": job_id})).first() is not None


_HASTEN = (
    update(_JOBS)
    .where(
        _JOBS.c.name == bindparam("job_name"),
        _JOBS.c.key == bindparam("job_key"),
        _JOBS.c.status == Status.QUEUED,
        _JOBS.c.run_at > FromNow(0),
    )
    .values(run_at=FromNow(0))
    .returning(_JOBS.c.id, WakeWorkers())
)


async def hasten(db: UnitOfWork, name: str, key: str) -> None:
    """Let a job that waits for its time, or for another attempt, run now."""
    await db.execute(_HASTEN, {"job_name": name, "job_key": key})


_DROP = delete(_JOBS).where(_JOBS.c.id == bindparam("job_id"), ~_IS_RUNNING)


async def drop(db: UnitOfWork, job_id: int) -> bool:
    """Delete a job; False if it is running or gone."""
    result: Any = await db.execute(_DROP, {"job_id": job_id})
    return bool(result.rowcount)


_RENEW = (
    update(_JOBS)
    .where(
        _JOBS.c.id.in_(bindparam("ids", expanding=True)),
        _JOBS.c.status == Status.RUNNING,
    )
    .values(leased_until=FromNow(bindparam("lease")))
)


async def renew(database: Database, ids: Sequence[int], *, lease: float) -> None:
    async with database.transaction() as db:
        await db.execute(_RENEW, {"ids": list(ids), "lease": lease})


_EXPIRED = (
    select(_JOBS.c.id)
    .where(_JOBS.c.status == Status.RUNNING, _JOBS.c.leased_until < FromNow(0))
    .limit(100)
    .with_for_update(skip_locked=True)
    .cte("expired")
)
_IS_LAST_DEATH = _JOBS.c.deaths + 1 >= bindparam("max_deaths")
_TAKE_OVER = (
    update(_JOBS)
    .where(_JOBS.c.id.in_(select(_EXPIRED.c.id)))
    .values(
        status=case((_IS_LAST_DEATH, Status.DEAD.value), else_=Status.QUEUED.value),
        finished_at=case((_IS_LAST_DEATH, FromNow(0)), else_=None),
        deaths=_JOBS.c.deaths + 1,
        leased_until=None,
        error="its worker died, or was not heard of until the lease had ended",
    )
    .returning(_JOBS.c.id, _JOBS.c.status)
)


async def take_over(database: Database, *, max_deaths: int = 3) -> list[tuple[int, str]]:
    """Queue again what dead workers left, or park it if that has happened `max_deaths` times."""
    async with database.transaction() as db:
        return [tuple(row) for row in await db.execute(_TAKE_OVER, {"max_deaths": max_deaths})]


_PURGE = delete(_JOBS).where(
    _JOBS.c.id.in_(
        select(_JOBS.c.id)
        .where(_JOBS.c.finished_at < _moment(-bindparam("age", type_=Double)))
        .where(_JOBS.c.status == Status.DONE)
        .order_by(_JOBS.c.finished_at)
        .limit(PURGED_AT_ONCE)
        .with_for_update(skip_locked=True)
    )
)


async def purge(database: Database, *, age: float) -> int:
    """Delete up to `PURGED_AT_ONCE` jobs that were done `age` seconds ago; return how many."""
    async with database.transaction() as db:
        result: Any = await db.execute(_PURGE, {"age": age})
        return int(result.rowcount)


_UNKNOWN = (
    select(_JOBS.c.name)
    .distinct()
    .where(_JOBS.c.status == Status.QUEUED, _JOBS.c.name.not_in(bindparam("names", expanding=True)))
    .order_by(_JOBS.c.name)
)


async def unknown_names(database: Database, names: Collection[str]) -> list[str]:
    """Names of waiting jobs that are not among `names`: nobody here runs them."""
    async with database.statements() as db:
        return list((await db.scalars(_UNKNOWN, {"names": list(names)})).all())


_LAST_TICK = select(func.max(_JOBS.c.tick)).where(_JOBS.c.name == bindparam("name"))


async def last_tick(database: Database, name: str) -> datetime | None:
    """The newest tick of a schedule."""
    async with database.statements() as db:
        tick: datetime | None = await db.scalar(_LAST_TICK, {"name": name})
        return tick
