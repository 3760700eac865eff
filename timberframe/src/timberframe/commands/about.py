"""`about`: versions, the database, and the settings in use; never a secret."""

import asyncio
import json
import platform
import re
from importlib.metadata import version
from typing import Any

from pydantic import SecretStr
from sqlalchemy import make_url, text

from timberframe.data.options import DatabaseOptions
from timberframe.data.revisions import known_migrations, read_applied
from timberframe.data.session import open_database
from timberframe.errors import Unavailable
from timberframe.settings import Settings

_PACKAGES = ("timberframe", "fastapi", "pydantic", "sqlalchemy", "alembic", "granian")
_URLS = ("DATABASE_URL", "DATABASE_REPLICA_URL", "REDIS_URL", "SMTP_URL")
_HIDDEN = "**********"
_SECRET_NAME = re.compile("SECRET|PASSWORD|_KEY$|API_?KEY|CREDENTIAL")

Sections = dict[str, dict[str, Any]]


def describe(settings: Settings) -> Sections:
    project = settings.project
    return {
        "Project": {
            "name": project.name,
            "version": settings.VERSION,
            "folder": str(project.root),
            "environment": settings.ENVIRONMENT,
        },
        "Versions": {"python": platform.python_version()} | {p: version(p) for p in _PACKAGES},
        "Database": asyncio.run(_database(DatabaseOptions.of(settings))),
        "Settings": {name: _shown(name, value) for name, value in settings},
    }


async def _database(options: DatabaseOptions) -> dict[str, str]:
    url = make_url(options.url)
    engine = url.get_backend_name()
    about = {"engine": engine, "url": _without_password(options.url)}
    ask = "SELECT sqlite_version()" if engine == "sqlite" else "SHOW server_version"
    async with open_database(options) as database:
        try:
            async with database.reading() as db:
                about["version"] = str(await db.scalar(text(ask)))
            applied = await read_applied(database)
        except Unavailable as away:
            return about | {"state": away.reason or away.detail}
    known = known_migrations(options.project.migrations)
    names = [str(known.get(revision, revision)) for revision in sorted(applied.revisions)]
    return about | {"migration": ", ".join(names) or "none"}


def _shown(name: str, value: Any) -> Any:
    """The value, or what may be seen of it."""
    if isinstance(value, SecretStr):
        # Others may be secret as a whole, as the address of a webhook is.
        return _without_password(value.get_secret_value()) if name in _URLS else _HIDDEN
    if isinstance(value, str):
        return _HIDDEN if value and _SECRET_NAME.search(name) else _without_password(value)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, (list, tuple, set)):
        return [_shown(name, each) for each in value]
    return _shown(name, str(value))


def _without_password(value: str) -> str:
    """A URL without what is in front of its host, and without its parameters."""
    scheme, is_url, rest = value.partition("://")
    if not is_url:
        return value
    _, has_user, place = rest.rpartition("@")
    return f"{scheme}://{'***@' if has_user else ''}{place.partition('?')[0]}"


def to_text(sections: Sections) -> str:
    width = max(len(name) for values in sections.values() for name in values)
    return "\n\n".join(
        "\n".join((title, *(f"  {name.ljust(width)}  {_line(v)}" for name, v in values.items())))
        for title, values in sections.items()
    )


def _line(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None else str(value)


def to_json(sections: Sections) -> str:
    named = {title.lower(): values for title, values in sections.items()}
    return json.dumps(named, indent=2, default=str)
