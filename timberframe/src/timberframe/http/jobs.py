"""Background jobs: what waits, runs and has failed."""

from typing import Annotated

from fastapi import Depends, Path, status

from timberframe.crud.policy import Principal
from timberframe.crud.results import Slice, Stored
from timberframe.data.unit_of_work import UnitOfWork
from timberframe.errors import Conflict, NotFound, NotPermitted
from timberframe.http.dependencies import CurrentSuperuser, DbRead, DbSession, superuser_only
from timberframe.http.problems import problems
from timberframe.http.resources import listed
from timberframe.http.routing import Router
from timberframe.jobs import queue, schemas
from timberframe.jobs.crud import job_crud
from timberframe.jobs.models import JobRecord
from timberframe.schemas.page import Pagination

router = Router(dependencies=[superuser_only])

JobId = Annotated[int, Path(description="The `id` of the job", examples=[1])]
JobParams = Annotated[Pagination, Depends(listed(job_crud))]


@router.get("/", response_model=schemas.JobList, responses=problems(NotPermitted))
async def read_jobs(db: DbRead, params: JobParams, superuser: CurrentSuperuser) -> Slice[JobRecord]:
    """List jobs, for superusers; `sort=-id` has the newest first."""
    return await job_crud.get_multi(db, params=params, viewer=superuser)


@router.get("/{job_id:id}", response_model=schemas.Job, responses=problems(NotPermitted, NotFound))
async def read_job(job_id: JobId, db: DbRead, superuser: CurrentSuperuser) -> Stored[JobRecord]:
    """Read a job, for superusers."""
    job = await job_crud.read(db, job_id, viewer=superuser)
    if job is None:
        raise NotFound("Job")
    return job


@router.post(
    "/{job_id:id}/retry",
    response_model=schemas.Job,
    responses=problems(NotPermitted, NotFound, Conflict),
)
async def retry_job(job_id: JobId, db: DbSession, superuser: CurrentSuperuser) -> JobRecord:
    """Queue a job again, now and with all its attempts; 409 if it is running or done."""
    job = await _locked(job_id, db, superuser)
    if not await queue.retry(db, job.id):
        raise Conflict(f"The job is {job.status}: only one that is queued or dead can be retried")
    await db.refresh(job)
    return job


@router.delete(
    "/{job_id:id}",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problems(NotPermitted, NotFound, Conflict),
)
async def delete_job(job_id: JobId, db: DbSession, superuser: CurrentSuperuser) -> None:
    """Delete a job, for superusers; 409 while it runs."""
    job = await _locked(job_id, db, superuser)
    if not await queue.drop(db, job.id):
        raise Conflict("The job is running: it can be deleted once it has ended")


async def _locked(job_id: int, db: UnitOfWork, superuser: Principal) -> JobRecord:
    """The job, which no worker begins or ends until the transaction has ended."""
    job = await job_crud.get_writable(db, job_id, viewer=superuser)
    if job is None:
        raise NotFound("Job")
    return job
