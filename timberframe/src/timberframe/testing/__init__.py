"""The test kit: what the tests of a project need, beside the fixtures of pytest's plugin."""

from timberframe.testing.cast import ADMIN, ALICE, BOB, CAST, Person, client_of
from timberframe.testing.jobs import run_jobs
from timberframe.testing.process import (
    ServerProcess,
    call_command,
    environment,
    free_port,
    run_command,
    serving,
)
from timberframe.testing.subject import (
    change_state,
    create_app,
    database_options,
    lifespan,
    set_limits,
)

__all__ = [
    "ADMIN",
    "ALICE",
    "BOB",
    "CAST",
    "Person",
    "ServerProcess",
    "call_command",
    "change_state",
    "client_of",
    "create_app",
    "database_options",
    "environment",
    "free_port",
    "lifespan",
    "run_command",
    "run_jobs",
    "serving",
    "set_limits",
]
