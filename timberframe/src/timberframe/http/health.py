"""Probes: is the process alive, and can it serve?"""

import asyncio
from typing import Literal

import structlog
from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from timberframe.data.failures import message_of
from timberframe.data.revisions import check_migrated
from timberframe.data.session import Database
from timberframe.errors import Unavailable
from timberframe.http.options import HttpOptions
from timberframe.http.problems import problems
from timberframe.http.routing import Route
from timberframe.jobs import queue
from timberframe.jobs.schemas import Backlog

router = APIRouter(prefix="/health", tags=["health"], route_class=Route)

log = structlog.get_logger()

# Kubernetes gives a probe one second. The table may be locked, by a migration for example.
QUEUE_TIMEOUT_SECONDS = 0.5


class Health(BaseModel):
    status: Literal["healthy"] = Field(
        default="healthy", description="Otherwise the answer is an error"
    )


class Readiness(BaseModel):
    status: Literal["healthy", "degraded"] = Field(
        description=(
            "`degraded`: requests are served, but background jobs wait for too long, or some were"
            " parked as dead within the last hour"
        )
    )
    jobs: Backlog | None = Field(description="The queue; null if it could not be read")


@router.get("")
async def health_check() -> Health:
    """Report that this process answers."""
    return Health()


@router.get("/live")
async def check_liveness() -> Health:
    """Report that this process answers, whatever it depends on; restart it if it does not."""
    return Health()


@router.get("/ready", responses=problems(Unavailable))
async def check_readiness(request: Request) -> Readiness:
    """Report whether requests can be served: the database answers and lacks no migration.

    How background jobs stand is told beside it, and never makes the answer an error.
    """
    database: Database = request.app.state.database
    options: HttpOptions = request.app.state.options
    await check_migrated(database)
    try:
        async with asyncio.timeout(QUEUE_TIMEOUT_SECONDS):
            backlog = await queue.read_backlog(database)
    except queue.AWAY as failed:
        log.warning("queue_not_read", reason=message_of(failed))
        return Readiness(status="healthy", jobs=None)
    is_late = backlog.oldest_seconds > options.jobs_max_wait_seconds
    return Readiness(status="degraded" if is_late or backlog.failed else "healthy", jobs=backlog)
