"""`dbshell`: the database's own shell, on the database that the settings name."""

import os
import shutil
import sys
from collections.abc import Sequence
from typing import NoReturn

from sqlalchemy.engine import URL, make_url

from timberframe.data.options import DatabaseOptions
from timberframe.errors import CommandError

_PACKAGES = {"sqlite3": "sqlite3", "psql": "postgresql-client"}


def start(options: DatabaseOptions, arguments: Sequence[str]) -> NoReturn:
    """Replace this process by `sqlite3` or `psql`, with further `arguments` of theirs."""
    url = make_url(options.url)
    if url.get_backend_name() == "sqlite":
        if not os.path.exists(str(url.database)):
            name = options.project.name
            raise CommandError(f"there is no database {url.database} yet: {name} migrate")
        _replace("sqlite3", [str(url.database), *arguments], {})
    _replace("psql", arguments, _of_libpq(url))


def _of_libpq(url: URL) -> dict[str, str]:
    """The environment variables of libpq: others may see the arguments of a process."""
    parts = {
        "host": url.host,
        "port": url.port,
        "user": url.username,
        "password": url.password,
        "database": url.database,
    }
    values = {name: str(value) for name, value in parts.items() if value}
    for name, several in url.normalized_query.items():
        values["database" if name == "dbname" else name] = ",".join(several)
    return {f"PG{name.upper().replace('_', '')}": value for name, value in values.items()}


def _replace(program: str, arguments: Sequence[str], environment: dict[str, str]) -> NoReturn:
    path = shutil.which(program)
    if path is None:
        package = _PACKAGES[program]
        raise CommandError(f"{program} is not installed; most systems have it in {package}")
    sys.stdout.flush()
    os.execve(path, [program, *arguments], os.environ | environment)  # noqa: S606 - no shell
