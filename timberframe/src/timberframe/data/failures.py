"""Classify database failures: unavailable, transaction conflict, violated constraint or bug."""

import os
import socket
import sqlite3
from typing import Self

import aiosqlite
import asyncpg
import structlog
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import EmulatedDBAPIException
from sqlalchemy.util import await_only

from timberframe.data.retries import TransactionConflict
from timberframe.errors import Unavailable

log = structlog.get_logger()

# SQLSTATEs of a server that cannot do the work now: it is starting, stopping or full, is read-only
# after a failover, or a statement, lock or idle timeout ran out.
_READ_ONLY = "25006"
_CONNECTION_LOST = "08"
_UNAVAILABLE = {
    _READ_ONLY,
    "25P03",
    "53100",
    "53200",
    "53300",
    "55P03",
    "57014",
    "57P01",
    "57P02",
    "57P03",
}
# Serialization failures and deadlocks. SQLite has neither: its transactions take the write lock
# when they begin, one at a time.
_CONFLICT = {"40001", "40P01"}
_SQLITE_UNAVAILABLE = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
}


# By SQLSTATE, or by SQLite's extended result code.
_KINDS: dict[str | int | None, str] = {
    "23503": "reference",
    "23001": "reference",
    "23505": "unique",
    "23514": "check",
    sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY: "reference",
    sqlite3.SQLITE_CONSTRAINT_UNIQUE: "unique",
    sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY: "unique",
    sqlite3.SQLITE_CONSTRAINT_CHECK: "check",
}


class ConstraintViolated(Exception):
    """A constraint forbids the statement; `rule` is its name, or SQLite's message.

    `kind` is `unique`, `reference` or `check`, or None if no client can correct it.
    """

    def __init__(self, rule: str, kind: str | None) -> None:
        super().__init__(rule)
        self.rule = rule
        self.kind = kind

    @classmethod
    def of(cls, error: BaseException) -> Self:
        """From the driver's exception, or SQLAlchemy's wrapper around it."""
        raised = getattr(error, "orig", error)
        for each in (raised.__cause__, raised):  # only the driver's own has the constraint's name
            if sqlstate := getattr(each, "sqlstate", None):
                rule = getattr(each, "constraint_name", None) or str(each)
                return cls(rule, _KINDS.get(sqlstate))
        return cls(str(raised), _KINDS.get(getattr(raised, "sqlite_errorcode", None)))


def message_of(error: BaseException) -> str:
    """The message of the server, the driver or the operating system, for an operator."""
    raised = getattr(error, "orig", None) or error
    # SQLAlchemy puts the driver's class in front of the message.
    raised = raised.__cause__ if getattr(raised, "sqlstate", None) and raised.__cause__ else raised
    if isinstance(raised, TimeoutError):
        return str(raised) or "no answer in time"
    if isinstance(raised, socket.gaierror):
        return f"cannot resolve the host: {raised.strerror}"
    if isinstance(raised, OSError) and raised.errno:
        return os.strerror(raised.errno)
    return str(raised) or type(raised).__name__


def lacks_schema(error: BaseException) -> bool:
    """Whether the error is about a missing table or column."""
    raised = getattr(error, "orig", error)
    is_unknown = getattr(raised, "sqlstate", None) in ("42P01", "42703")
    return is_unknown or str(raised).startswith(("no such table", "no such column"))


def translate(context: ExceptionContext) -> Unavailable | TransactionConflict | None:
    """Listen to SQLAlchemy's `handle_error`: return the exception to raise instead."""
    error = context.original_exception
    if not isinstance(error, Exception):
        _interrupt(context)
        return None  # cancelled, by Ctrl-C or because the client is gone: the database is fine
    sqlstate = getattr(error, "sqlstate", None)
    if sqlstate == _READ_ONLY and _is_for_reading(context):
        return None
    if isinstance(error, TimeoutError) or sqlstate == _READ_ONLY or _is_broken(error):
        context.is_disconnect = True
    return error_for(error, is_disconnect=context.is_disconnect)


def error_for(
    error: BaseException, *, is_disconnect: bool = False
) -> Unavailable | TransactionConflict | None:
    """The exception to raise instead, or None if the error is a bug of ours."""
    sqlstate: str | None = getattr(error, "sqlstate", None)
    if sqlstate in _CONFLICT:
        return TransactionConflict(type(error).__name__)
    # The low byte of an extended result code is the primary one.
    sqlite_code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    is_lost = is_disconnect or _is_broken(error) or isinstance(error, OSError)
    if (
        is_lost
        or sqlstate in _UNAVAILABLE
        or (sqlstate or "").startswith(_CONNECTION_LOST)
        or sqlite_code in _SQLITE_UNAVAILABLE
    ):
        log.warning("database_failed", error=type(error).__name__, sqlstate=sqlstate)
        return Unavailable("The database", reason=message_of(error))
    return None


def _is_for_reading(context: ExceptionContext) -> bool:
    """Whether `Database.reading` made the transaction read-only, and not the server."""
    options = context.connection.get_execution_options() if context.connection else {}
    return bool(options.get("postgresql_readonly"))


def _interrupt(context: ExceptionContext) -> None:
    """Interrupt SQLite's statement, which would run on in its thread; asyncpg cancels by itself."""
    connection = context.connection and context.connection.connection.driver_connection
    if isinstance(connection, aiosqlite.Connection):
        await_only(connection.interrupt())


def _is_broken(error: BaseException) -> bool:
    """Whether asyncpg reports an unusable connection; SQLAlchemy may have wrapped its error.

    A server that shuts down sends an error to an idle connection before it closes it. In between,
    the connection is open but no longer usable: `InternalClientError`.
    """
    raised = error.__cause__ if isinstance(error, EmulatedDBAPIException) else error
    if isinstance(raised, asyncpg.InternalClientError):
        return True
    # asyncpg raises the same error for a closed or busy connection and for wrong usage.
    return isinstance(raised, asyncpg.InterfaceError) and (
        "closed" in str(raised) or "another operation is" in str(raised)
    )
