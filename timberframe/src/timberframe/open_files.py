"""Open files: how many connections a process may have within the limit of `ulimit -n`."""

import resource

from timberframe.errors import CommandError
from timberframe.settings import Settings

USUAL_CONNECTIONS = 1_000
MIN_CONNECTIONS = 10
_FILES_OF_PROCESS = 100  # the interpreter, its libraries, logs, mail
_FILES_PER_DATABASE_CONNECTION = 4  # SQLite opens a file, a WAL and its index for each


class TooFewFiles(CommandError):
    code = "too_few_files"


def max_connections(settings: Settings) -> int:
    """Connections of one process: the setting, or the usual number as far as open files allow."""
    return settings.MAX_CONNECTIONS or min(
        USUAL_CONNECTIONS, _connections_within(_limits()[0], settings)
    )


def reserve_open_files(settings: Settings) -> None:
    """Raise the limit of open files as far as needed; raise `TooFewFiles` if that is too little.

    A server without a free file for a waiting connection would try to accept it in a busy loop.
    """
    soft, hard = _limits()
    wanted = settings.MAX_CONNECTIONS or MIN_CONNECTIONS
    needed = _files_needed(settings.MAX_CONNECTIONS or USUAL_CONNECTIONS, settings)
    if soft < needed:
        soft = min(needed, hard)
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (soft, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        )
    enough = max(0, _connections_within(soft, settings))
    if enough < wanted:
        raise TooFewFiles(
            f"MAX_CONNECTIONS: {wanted} connections need"
            f" {_files_needed(wanted, settings)} open files,"
            f" and `ulimit -n` allows {soft}: enough for {enough}"
        )


_UNLIMITED = 1 << 62


def _limits() -> tuple[int, int]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _or_unlimited(soft), _or_unlimited(hard)


def _or_unlimited(limit: int) -> int:
    return _UNLIMITED if limit == resource.RLIM_INFINITY else limit


def _files_needed(connections: int, settings: Settings) -> int:
    # Half of the connections may be sending a body, which may have a file of its own.
    return connections + connections // 2 + _other_files(settings)


def _connections_within(files: int, settings: Settings) -> int:
    return (files - _other_files(settings)) * 2 // 3


def _other_files(settings: Settings) -> int:
    # SQLite has a pool for reads beside the one for changes.
    is_sqlite = settings.DATABASE_URL.get_secret_value().startswith("sqlite")
    databases = 2 if settings.DATABASE_REPLICA_URL or is_sqlite else 1
    pools = settings.DATABASE_POOL_SIZE * databases * _FILES_PER_DATABASE_CONNECTION
    return pools + _FILES_OF_PROCESS
