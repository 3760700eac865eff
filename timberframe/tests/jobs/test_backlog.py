"""How the queue stands: in the answer of `/health/ready`, and in the worker's log."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from sqlalchemy import func, insert, select, text, update
from structlog.testing import capture_logs

from specimen import jobs
from timberframe.data.session import Database
from timberframe.http import health
from timberframe.jobs import queue
from timberframe.jobs import worker as working
from timberframe.jobs.models import JobRecord
from timberframe.jobs.schemas import MAX_COUNTED
from timberframe.jobs.worker import JobOptions, Worker
from timberframe.testing import run_jobs

NAMES = {each.name: each for each in jobs.JOBS}
IDLE = {"queued": 0, "oldest_seconds": 0, "ended_per_minute": 0, "failed": 0}
LOCK_SECONDS = 1


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may take longer than a probe waits."""
    monkeypatch.setattr(health, "QUEUE_TIMEOUT_SECONDS", 30)


async def readiness(client: httpx2.AsyncClient) -> dict[str, Any]:
    answer = await client.get("http://testserver/health/ready")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def status(client: httpx2.AsyncClient) -> str:
    return str((await readiness(client))["status"])


async def move(database: Database, column: str, seconds: float) -> None:
    """Set a time of all jobs, from now on."""
    async with database.transaction() as db:
        await db.execute(update(JobRecord).values({column: queue.FromNow(seconds)}))


async def test_idle_queue_is_healthy(client: httpx2.AsyncClient, database: Database) -> None:
    await jobs.fail.enqueue(database, until_attempt=0)
    await run_jobs()
    await jobs.fail.set(delay=timedelta(hours=1)).enqueue(database)
    found = await readiness(client)
    assert found == {"status": "healthy", "jobs": IDLE | {"ended_per_minute": 1}}
    await move(database, "finished_at", -61)
    assert await readiness(client) == {"status": "healthy", "jobs": IDLE}


async def test_job_that_waits_too_long_degrades(
    client: httpx2.AsyncClient, database: Database
) -> None:
    for _ in range(3):
        await jobs.fail.enqueue(database)
    await move(database, "run_at", -270)
    found = await readiness(client)
    assert (found["status"], found["jobs"]["queued"]) == ("healthy", 3)
    assert 270 <= found["jobs"]["oldest_seconds"] < 300
    await move(database, "run_at", -301)
    assert await status(client) == "degraded"
    await run_jobs()
    assert await status(client) == "healthy"


async def test_parked_job_degrades_for_an_hour(
    client: httpx2.AsyncClient, database: Database
) -> None:
    await jobs.hang.enqueue(database)
    await run_jobs()
    ended = {"ended_per_minute": 1, "failed": 1}
    assert await readiness(client) == {"status": "degraded", "jobs": IDLE | ended}
    await move(database, "finished_at", -3590)
    assert await status(client) == "degraded"
    await move(database, "finished_at", -3601)
    assert await readiness(client) == {"status": "healthy", "jobs": IDLE}


async def test_parked_job_that_is_seen_to_no_longer_degrades(
    client: httpx2.AsyncClient, admin: httpx2.AsyncClient, database: Database
) -> None:
    for method, path in (("DELETE", "/jobs/1"), ("POST", "/jobs/2/retry")):
        await jobs.hang.enqueue(database)
        await run_jobs()
        assert await status(client) == "degraded"
        assert (await admin.request(method, path)).is_success
        assert await status(client) == "healthy"


async def add(database: Database, status: str, count: int, **values: Any) -> None:
    row = {
        "name": "secret_name",
        "payload": {"secret": "payload"},
        "status": status,
        "run_at": queue.FromNow(-60),
        "created_at": queue.FromNow(-60),
    }
    numbers = select(func.count()).select_from(JobRecord)
    async with database.transaction() as db:
        await db.execute(insert(JobRecord).values(row | values))
        columns = [column for column in JobRecord.__table__.columns if column.name != "id"]
        for _ in range(count.bit_length()):
            missing = count - (await db.scalar(numbers.where(JobRecord.status == status)) or 0)
            copies = select(*columns).where(JobRecord.status == status).limit(missing)
            await db.execute(insert(JobRecord).from_select([c.name for c in columns], copies))


async def test_counts_are_bounded_and_nothing_else_is_told(
    client: httpx2.AsyncClient, database: Database
) -> None:
    more = MAX_COUNTED + 5
    await add(database, "queued", more)
    await add(database, "dead", more, finished_at=queue.FromNow(0))
    answer = await client.get("http://testserver/health/ready")
    found = answer.json()["jobs"]
    assert (found["queued"], found["failed"]) == (MAX_COUNTED, MAX_COUNTED)
    assert "secret" not in answer.text
    async with database.reading() as db:  # the control
        counted = select(func.count(JobRecord.id)).group_by(JobRecord.status)
        assert list(await db.scalars(counted)) == [more, more]


async def plan_of_backlog(database: Database) -> str:
    """How the database would read a queue with jobs of all kinds."""
    for status in ("queued", "done", "dead"):
        await add(database, status, 2_000, finished_at=queue.FromNow(0))
    async with database.transaction() as db:
        await db.execute(text("ANALYZE"))
    dialect = database.engine.dialect
    sql = str(queue._BACKLOG.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))
    async with database.reading() as db:
        explain = "EXPLAIN QUERY PLAN" if dialect.name == "sqlite" else "EXPLAIN"
        rows: Sequence[Any] = (await db.execute(text(f"{explain} {sql}".replace(":", r"\:")))).all()
    return "\n".join(str(row[-1]) for row in rows)


async def test_queue_is_read_by_indexes(database: Database) -> None:
    plan = await plan_of_backlog(database)
    assert "Seq Scan" not in plan
    assert "SCAN jobs" not in plan
    assert plan.count("ix_jobs_due") == 2, plan
    assert plan.count("ix_jobs_dead") == 1


async def test_control_without_the_index_all_jobs_would_be_read(database: Database) -> None:
    async with database.transaction() as db:
        await db.execute(text("DROP INDEX ix_jobs_dead"))
        await db.execute(text("DROP INDEX ix_jobs_finished_at"))
    plan = await plan_of_backlog(database)
    assert "Seq Scan" in plan or "SCAN jobs" in plan


async def test_readiness_does_not_need_the_table(
    client: httpx2.AsyncClient, database: Database
) -> None:
    async with database.transaction() as db:
        await db.execute(text("ALTER TABLE jobs RENAME TO other_jobs"))
    with capture_logs() as logs:
        assert await readiness(client) == {"status": "healthy", "jobs": None}
    [warning] = [entry for entry in logs if entry["event"] == "queue_not_read"]
    assert "jobs" in warning["reason"]


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)  # readers of SQLite never wait
async def test_probe_does_not_wait_for_a_lock_on_the_table(
    client: httpx2.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control is a probe that waits for the queue as long as it takes."""
    await readiness(client)
    async with database.transaction() as db:
        await db.execute(text("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE"))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(readiness(client), LOCK_SECONDS)
        monkeypatch.setattr(health, "QUEUE_TIMEOUT_SECONDS", 0.1)
        found = await asyncio.wait_for(readiness(client), 3)  # the lock itself is waited for longer
        assert found == {"status": "healthy", "jobs": None}
    monkeypatch.setattr(health, "QUEUE_TIMEOUT_SECONDS", 30)
    assert await readiness(client) == {"status": "healthy", "jobs": IDLE}


async def lines_of_worker(
    database: Database, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> list[dict[str, Any]]:
    """The lines about the queue, of a worker that writes one every half second."""
    monkeypatch.setattr(working, "REPORT_SECONDS", 0.2)
    monkeypatch.setattr(working, "POLL_SECONDS", 0.05)
    worker = Worker(database, NAMES, JobOptions(lease=1.5))
    with capture_logs() as logs:
        task = asyncio.create_task(worker.run())
        await asyncio.sleep(seconds)
        worker.stop()
        await task
    return [dict(entry) for entry in logs if entry["event"] == "queue"]


async def test_worker_logs_what_waits_and_what_has_ended(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await jobs.fail.enqueue(database, until_attempt=2)
    await jobs.hang.enqueue(database)
    await queue.insert_job(database, "fail", {"no": "payload"})
    await queue.insert_job(database, "unknown", {})  # which stays in the queue
    lines = await lines_of_worker(database, monkeypatch, 2.5)
    assert len(lines) >= 2
    for outcome, expected in {"done": 1, "retried": 1, "failed": 2}.items():
        assert sum(line[outcome] for line in lines) == expected, outcome
    assert lines[-1].keys() - {"log_level"} == {
        *("event", "queued", "oldest_seconds", "done", "failed", "retried")
    }
    assert lines[-1]["queued"] == 1
    assert 0 < lines[0]["oldest_seconds"] < lines[-1]["oldest_seconds"]


async def test_idle_worker_logs_nothing_about_the_queue(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither of jobs for later, nor of those that others have parked; see above for a control."""
    await jobs.fail.set(delay=timedelta(hours=1)).enqueue(database)
    await jobs.hang.enqueue(database)
    await Worker(database, NAMES, JobOptions()).run_due()
    assert await lines_of_worker(database, monkeypatch, 1) == []
