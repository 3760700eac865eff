"""The databases: PostgreSQL and SQLite with the same rows, thrown away at the end."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.machine import OTHER_CORES, pin
from benchmarks.postgresql import execute, run_postgresql
from benchmarks.systems import BIN, MYAPI_ENVIRONMENT

DEMO_USERS = 10
READER_ID = DEMO_USERS + 1
READER_EMAIL = "reader@example.com"
READER_PASSWORD = "Reads-All-Day-1"


@contextmanager
def open_postgresql(folder: Path, products: int, secret_key: str) -> Iterator[str]:
    """A new, filled PostgreSQL with its default settings; yields its URL."""
    with run_postgresql(folder) as (url, pid):
        # Some drivers return times in the session's zone, and answers are to be alike.
        execute(url, "ALTER ROLE postgres SET timezone TO 'UTC'")
        fill(url, products, secret_key)
        # Now, rather than by autovacuum in the middle of a measurement.
        execute(url, "VACUUM ANALYZE", "CHECKPOINT")
        pin(pid, OTHER_CORES)
        yield url


@contextmanager
def open_sqlite(folder: Path, products: int, secret_key: str) -> Iterator[str]:
    """A new, filled SQLite file; yields its URL."""
    url = f"sqlite:///{folder / 'myapi.db'}"
    fill(url, products, secret_key)
    yield url


OPENERS = {"PostgreSQL": open_postgresql, "SQLite": open_sqlite}


def fill(url: str, products: int, secret_key: str) -> None:
    """Migrate, and add demo users with their products and one user whose password is known."""
    environment = base_environment(url, secret_key) | MYAPI_ENVIRONMENT
    _myapi(environment, "migrate")
    _myapi(environment, "seed", "--users", str(DEMO_USERS), "--products", str(products))
    reader = ("--email", READER_EMAIL, "--username", "reader")
    _myapi(environment, "create-superuser", *reader, stdin=f"{READER_PASSWORD}\n")


def base_environment(url: str, secret_key: str) -> dict[str, str]:
    """What every process gets: nothing of the caller's that a system could take for a setting."""
    return {"PATH": os.environ.get("PATH", ""), "DATABASE_URL": url, "SECRET_KEY": secret_key}


def _myapi(environment: dict[str, str], *arguments: str, stdin: str = "") -> None:
    command = [str(BIN / "myapi"), *arguments]
    done = subprocess.run(command, env=environment, input=stdin, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"myapi {arguments[0]} failed:\n{done.stdout}{done.stderr}")
