"""Background jobs in a test: run here and now, instead of by a worker."""

from sqlalchemy import select

from timberframe.jobs.models import JobRecord
from timberframe.jobs.worker import JobOptions, Worker
from timberframe.testing import subject


async def run_jobs() -> list[JobRecord]:
    """Run the jobs that are due, and those that they enqueue; return them as they ended.

    A job that fails is stored as a worker stores it: look at its `status` and `error`.
    """
    state = subject.app().state
    worker = Worker(state.database, state.jobs, JobOptions())
    ids = await worker.run_due()
    async with state.database.reading() as db:
        rows = (await db.scalars(select(JobRecord).where(JobRecord.id.in_(ids)))).all()
    return sorted(rows, key=lambda row: ids.index(row.id))
