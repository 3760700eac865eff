"""Probes: is the process alive, and can it serve?"""

from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from timberframe.data.revisions import check_migrated
from timberframe.errors import Unavailable
from timberframe.http.problems import problems
from timberframe.http.routing import Route

router = APIRouter(prefix="/health", tags=["health"], route_class=Route)


class Health(BaseModel):
    status: Literal["healthy"] = Field(
        default="healthy", description="Otherwise the answer is an error"
    )


@router.get("")
async def health_check() -> Health:
    """Report that this process answers."""
    return Health()


@router.get("/live")
async def check_liveness() -> Health:
    """Report that this process answers, whatever it depends on; restart it if it does not."""
    return Health()


@router.get("/ready", responses=problems(Unavailable))
async def check_readiness(request: Request) -> Health:
    """Report whether requests can be served: the database answers and lacks no migration."""
    await check_migrated(request.app.state.database)
    return Health()
