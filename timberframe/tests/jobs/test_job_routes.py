"""`/jobs/`: superusers list jobs, look at one, retry and delete them."""

from typing import Any, get_args

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import update

from specimen import jobs
from timberframe.data.session import Database
from timberframe.jobs import queue, schemas
from timberframe.jobs.models import AnyStatus, JobRecord, Status
from timberframe.testing import change_state, run_jobs


async def claim_one(database: Database) -> int:
    """A job that a worker has claimed, and which has not ended."""
    await jobs.hang.enqueue(database)
    [claim] = await queue.claim(database, ["hang"], count=1, lease=60)
    return claim.id


async def park_one(database: Database) -> int:
    await jobs.hang.enqueue(database)
    [dead] = await run_jobs()
    assert dead.status == "dead"
    return dead.id


async def finish_one(database: Database) -> int:
    await jobs.fail.enqueue(database, until_attempt=0)
    [done] = await run_jobs()
    assert done.status == "done"
    return done.id


async def listed(admin: httpx2.AsyncClient, **params: Any) -> list[int]:
    answer = await admin.get("/jobs/", params=params)
    assert answer.status_code == 200, answer.text
    return [job["id"] for job in answer.json()["items"]]


async def test_list_is_filtered_and_sorted(admin: httpx2.AsyncClient, database: Database) -> None:
    done, dead = await finish_one(database), await park_one(database)
    running = await claim_one(database)
    queued = await jobs.die.enqueue(database)
    assert await listed(admin) == [done, dead, running, queued]
    assert await listed(admin, sort="-id", limit=2) == [queued, running]
    by_status = {"done": done, "dead": dead, "running": running, "queued": queued}
    for status, job_id in by_status.items():
        assert await listed(admin, status=status) == [job_id]
    assert await listed(admin, status__in="dead,done") == [done, dead]
    assert await listed(admin, name="hang") == [dead, running]
    assert await listed(admin, name__in=["die", "fail"]) == [done, queued]
    assert await listed(admin, name="hang", status="dead") == [dead]
    assert await listed(admin, name="another") == []


async def test_status_that_does_not_exist_is_refused(admin: httpx2.AsyncClient) -> None:
    assert get_args(AnyStatus) == tuple(Status)
    for params in ({"status": "failed"}, {"status__in": "dead,failed"}):
        answer = await admin.get("/jobs/", params=params)
        assert answer.status_code == 422
        assert "'queued', 'running', 'done' or 'dead'" in answer.json()["errors"][0]["msg"]


async def test_job_is_shown_with_all_its_columns(
    admin: httpx2.AsyncClient, database: Database
) -> None:
    await jobs.fail.set(key="one", priority=2).enqueue(database, until_attempt=7)
    await jobs.hang.enqueue(database)
    for record in await run_jobs():
        shown = (await admin.get(f"/jobs/{record.id}")).json()
        assert shown.keys() == set(JobRecord.__table__.columns.keys())
        assert shown == schemas.Job.model_validate(record).model_dump(mode="json")
    assert (await admin.get("/jobs/1")).json()["payload"] == {"until_attempt": 7}


async def test_dead_job_is_retried(admin: httpx2.AsyncClient, database: Database) -> None:
    dead = await park_one(database)
    answer = await admin.post(f"/jobs/{dead}/retry")
    assert answer.status_code == 200
    job = answer.json()
    assert (job["status"], job["attempts"], job["finished_at"]) == ("queued", 0, None)
    assert job == (await admin.get(f"/jobs/{dead}")).json()
    assert [(each.id, each.attempts) for each in await run_jobs()] == [(dead, 1)]


async def test_delayed_job_is_due_once_it_is_retried(
    admin: httpx2.AsyncClient, database: Database
) -> None:
    await jobs.fail.enqueue(database)
    [later] = await run_jobs()
    assert (later.status, later.attempts) == ("queued", 1)
    assert (await admin.post(f"/jobs/{later.id}/retry")).json()["attempts"] == 0
    assert len(await run_jobs()) == 1


async def test_running_job_is_left_alone(admin: httpx2.AsyncClient, database: Database) -> None:
    running = await claim_one(database)
    before = (await admin.get(f"/jobs/{running}")).json()
    retried = await admin.post(f"/jobs/{running}/retry")
    deleted = await admin.delete(f"/jobs/{running}")
    assert (retried.status_code, deleted.status_code) == (409, 409)
    assert retried.json()["detail"] == (
        "The job is running: only one that is queued or dead can be retried"
    )
    assert deleted.json()["detail"] == "The job is running: it can be deleted once it has ended"
    assert (await admin.get(f"/jobs/{running}")).json() == before
    # The control: what protects it is its lease.
    await expire_lease(database)
    assert (await admin.post(f"/jobs/{running}/retry")).status_code == 200


async def expire_lease(database: Database) -> None:
    async with database.transaction() as db:
        await db.execute(update(JobRecord).values(leased_until=queue.FromNow(-1)))


async def test_job_whose_worker_died_may_be_deleted(
    admin: httpx2.AsyncClient, database: Database
) -> None:
    running = await claim_one(database)
    await expire_lease(database)
    assert (await admin.delete(f"/jobs/{running}")).status_code == 204
    assert (await admin.get(f"/jobs/{running}")).status_code == 404


async def test_done_job_is_deleted_and_not_retried(
    admin: httpx2.AsyncClient, database: Database
) -> None:
    done = await finish_one(database)
    answer = await admin.post(f"/jobs/{done}/retry")
    assert answer.status_code == 409
    assert answer.json()["detail"].startswith("The job is done: ")
    assert (await admin.delete(f"/jobs/{done}")).status_code == 204
    assert (await admin.delete(f"/jobs/{done}")).status_code == 404
    assert (await admin.get("/jobs/")).json()["items"] == []


async def test_number_of_no_job_is_not_found(admin: httpx2.AsyncClient) -> None:
    for number in (0, 2**31, 2**63 - 1, 2**63, 10**19 - 1, 10**19):
        for method, path in (("GET", ""), ("POST", "/retry"), ("DELETE", "")):
            answer = await admin.request(method, f"/jobs/{number}{path}")
            assert answer.status_code == 404, (number, answer.text)


async def test_deletion_needs_no_precondition(
    app: FastAPI,
    admin: httpx2.AsyncClient,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A job has no version: neither `ETag` nor `If-Match`, even where that is required."""
    dead = await park_one(database)
    assert "etag" not in (await admin.get(f"/jobs/{dead}")).headers
    change_state(app, monkeypatch, "options", is_if_match_required=True)
    assert (await admin.delete(f"/jobs/{dead}")).status_code == 204
