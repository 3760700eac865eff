"""`jobs`: an operator lists jobs, looks at one, retries, drops and runs it."""

import asyncio
import json

import pytest

from specimen import jobs
from timberframe.data.session import open_database
from timberframe.jobs import queue
from timberframe.testing import call_command, database_options


async def claim_one() -> int:
    async with open_database(database_options()) as database:
        await jobs.hang.enqueue(database)
        [claim] = await queue.claim(database, ["hang"], count=1, lease=60)
        return claim.id


async def fail(job_id: int) -> None:
    async with (
        open_database(database_options()) as database,
        database.transaction() as db,
    ):
        await queue.fail(db, job_id, 1, error="it [broke]", retry_in=None)


@pytest.fixture
def running(database_url: str) -> int:
    """The id of a job that a worker has claimed."""
    return asyncio.run(claim_one())


@pytest.fixture
def dead(running: int) -> int:
    """The id of a job that has failed."""
    asyncio.run(fail(running))
    return running


def output_of(*arguments: str) -> str:
    done = call_command("jobs", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def refusal_of(*arguments: str) -> str:
    failed = call_command("jobs", *arguments)
    assert (failed.returncode, failed.stdout) == (1, "")
    return failed.stderr.removeprefix("specimen: ").rstrip("\n")


def test_dead_job_is_listed_and_shown(dead: int) -> None:
    table = output_of("list", "--status", "dead")
    assert "hang" in table
    assert "0 queued, 0 running, 0 done, 1 dead" in table
    assert "it [broke]" in table
    assert "hang" not in output_of("list", "--status", "done")
    [listed] = json.loads(output_of("list", "--name", "hang", "--json"))
    assert listed == json.loads(output_of("show", str(dead)))
    assert (listed["status"], listed["attempts"], listed["payload"]) == ("dead", 1, {})


def test_dead_job_is_retried(dead: int) -> None:
    assert output_of("retry", str(dead)) == f"Job {dead} is queued\n"
    shown = json.loads(output_of("show", str(dead)))
    assert (shown["status"], shown["attempts"]) == ("queued", 0)


def test_job_is_run_here(dead: int) -> None:
    failed = call_command("jobs", "run", str(dead))
    assert failed.returncode == 1
    why = "TimeLimit: it took longer than 0.2 s"
    assert failed.stderr == f"specimen: job {dead} is dead: {why}\n"


def test_job_is_dropped(dead: int) -> None:
    assert output_of("drop", str(dead)) == f"Job {dead} is gone\n"
    assert refusal_of("show", str(dead)) == f"there is no job {dead}"
    assert refusal_of("drop", str(dead)) == f"there is no job {dead}"


def test_running_job_is_left_alone(running: int) -> None:
    assert refusal_of("drop", str(running)) == (
        f"job {running} is running: it can be dropped once it has ended"
    )
    assert refusal_of("retry", str(running)) == (
        f"job {running} is running: only one that is queued or dead can be retried"
    )
