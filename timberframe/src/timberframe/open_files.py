"""Open files: how many connections a process may have within the limit of `ulimit -n`."""

import resource

from timberframe.errors import CommandError
from timberframe.settings import Settings

USUAL_CONNECTIONS = 1_000
LEAST_CONNECTIONS = 10
_OF_THE_PROCESS = 100  # the interpreter, its libraries, logs, mail
_OF_A_DATABASE_CONNECTION = 4  # SQLite opens a file, a WAL and its index for each


class TooFewFiles(CommandError):
    code = "too_few_files"


def most_connections(settings: Settings) -> int:
    """Connections of one process: the setting, or the usual number as far as open files allow."""
    return settings.MAX_CONNECTIONS or min(USUAL_CONNECTIONS, _enough_for(_limits()[0], settings))


def reserve_open_files(settings: Settings) -> None:
    """Raise the limit of open files as far as needed; raise `TooFewFiles` if that is too little.

    A server without a free file for a waiting connection would try to accept it in a busy loop.
    """
    soft, hard = _limits()
    wanted = settings.MAX_CONNECTIONS or LEAST_CONNECTIONS
    needed = _needed_for(settings.MAX_CONNECTIONS or USUAL_CONNECTIONS, settings)
    if soft < needed:
        soft = min(needed, hard)
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (soft, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        )
    enough = max(0, _enough_for(soft, settings))
    if enough < wanted:
        raise TooFewFiles(
            f"MAX_CONNECTIONS: {wanted} connections need"
            f" {_needed_for(wanted, settings)} open files,"
            f" and `ulimit -n` allows {soft}: enough for {enough}"
        )


_ENDLESS = 1 << 62


def _limits() -> tuple[int, int]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _or_endless(soft), _or_endless(hard)


def _or_endless(limit: int) -> int:
    return _ENDLESS if limit == resource.RLIM_INFINITY else limit


def _needed_for(connections: int, settings: Settings) -> int:
    # Half of the connections may be sending a body, which may have a file of its own.
    return connections + connections // 2 + _others(settings)


def _enough_for(files: int, settings: Settings) -> int:
    return (files - _others(settings)) * 2 // 3


def _others(settings: Settings) -> int:
    # SQLite has a pool for reads beside the one for changes.
    is_sqlite = settings.DATABASE_URL.get_secret_value().startswith("sqlite")
    databases = 2 if settings.DATABASE_REPLICA_URL or is_sqlite else 1
    pools = settings.DATABASE_POOL_SIZE * databases * _OF_A_DATABASE_CONNECTION
    return pools + _OF_THE_PROCESS
