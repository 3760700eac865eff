"""Open files: how many connections a process may have within what `ulimit -n` allows it."""

import resource

from app.core.config import settings
from app.core.errors import AppError

USUAL_CONNECTIONS = 1_000
LEAST_CONNECTIONS = 10
_OF_THE_PROCESS = 100  # the interpreter, its libraries, logs, mail
_OF_A_DATABASE_CONNECTION = 4  # SQLite has a file, a log and an index for each


class TooFewFiles(AppError):
    code = "too_few_files"


def most_connections() -> int:
    """Of one process: the setting, or what is usual, or as many as there may be open files."""
    return settings.MAX_CONNECTIONS or min(USUAL_CONNECTIONS, _enough_for(_limits()[0]))


def reserve_open_files() -> None:
    """Raise the limit of open files as far as needed; raise `TooFewFiles` if that is too little.

    A server that has no file left for a connection that waits would ask for it again and again.
    """
    soft, hard = _limits()
    wanted = settings.MAX_CONNECTIONS or LEAST_CONNECTIONS
    needed = _needed_for(settings.MAX_CONNECTIONS or USUAL_CONNECTIONS)
    if soft < needed:
        soft = min(needed, hard)
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (soft, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        )
    enough = max(0, _enough_for(soft))
    if enough < wanted:
        raise TooFewFiles(
            f"MAX_CONNECTIONS: {wanted} connections need {_needed_for(wanted)} open files,"
            f" and `ulimit -n` allows {soft}: enough for {enough}"
        )


_ENDLESS = 1 << 62


def _limits() -> tuple[int, int]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _or_endless(soft), _or_endless(hard)


def _or_endless(limit: int) -> int:
    return _ENDLESS if limit == resource.RLIM_INFINITY else limit


def _needed_for(connections: int) -> int:
    # Half of the connections may be sending a body, which may have a file of its own.
    return connections + connections // 2 + _others()


def _enough_for(files: int) -> int:
    return (files - _others()) * 2 // 3


def _others() -> int:
    databases = 2 if settings.DATABASE_REPLICA_URL else 1
    pools = settings.DATABASE_POOL_SIZE * databases * _OF_A_DATABASE_CONNECTION
    return pools + _OF_THE_PROCESS
