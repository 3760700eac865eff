"""The databases: PostgreSQL and SQLite with the same rows, thrown away at the end."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.machine import OTHER_CORES, pin
from benchmarks.peers.pocketbase import filling
from benchmarks.postgresql import execute, run_postgresql
from benchmarks.systems import BIN, MYAPI_ENVIRONMENT, PEERS_BIN

DEMO_USERS = 10
READER_ID = DEMO_USERS + 1
READER_EMAIL = "reader@example.com"
READER_PASSWORD = "Reads-All-Day-1"


SQLITE_FILE = "myapi.db"
DELETE_CREATED = "DELETE FROM products WHERE id > {products}"


@dataclass(frozen=True)
class Database:
    """Where it is, its own process if it has one, and how to take away what was created since."""

    url: str
    pid: int | None
    delete_created: Callable[[], None]


@contextmanager
def open_postgresql(folder: Path, products: int, secret_key: str) -> Iterator[Database]:
    """A new, filled PostgreSQL with its default settings."""
    with run_postgresql(folder) as (url, pid):
        # Some drivers return times in the session's zone, and answers are to be alike.
        execute(url, "ALTER ROLE postgres SET timezone TO 'UTC'")
        fill(url, products, secret_key)
        # Now, rather than by autovacuum in the middle of a measurement.
        execute(url, "VACUUM ANALYZE", "CHECKPOINT")
        pin(pid, OTHER_CORES)
        delete = partial(execute, url, DELETE_CREATED.format(products=products))
        yield Database(url, pid, delete)


@contextmanager
def open_sqlite(folder: Path, products: int, secret_key: str) -> Iterator[Database]:
    """A new, filled SQLite file."""
    file = folder / SQLITE_FILE
    fill(f"sqlite:///{file}", products, secret_key)

    def delete() -> None:
        with closing(sqlite3.connect(file, timeout=60)) as connection, connection:
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute(DELETE_CREATED.format(products=products))

    yield Database(f"sqlite:///{file}", None, delete)


@contextmanager
def open_pocketbase(folder: Path, products: int, secret_key: str) -> Iterator[Database]:
    """Its own data, with the rows of the SQLite file that was filled before in the same folder."""
    data = folder / "pocketbase"
    filling.fill(str(PEERS_BIN / "pocketbase"), data, folder / SQLITE_FILE)
    yield Database(str(data), None, lambda: None)


OPENERS = {"PostgreSQL": open_postgresql, "SQLite": open_sqlite, "PocketBase": open_pocketbase}


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
