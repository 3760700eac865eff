"""The database of your settings, for commands and scripts; routes ask for `DbSession`."""

from contextlib import AbstractAsyncContextManager

from timberframe.data import session
from timberframe.data.options import DatabaseOptions

from app.core.config import settings


def open_database() -> AbstractAsyncContextManager[session.Database]:
    """A context that closes its connections; `async with database.transaction() as db` commits."""
    return session.open_database(DatabaseOptions.of(settings))
