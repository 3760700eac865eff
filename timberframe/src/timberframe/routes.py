"""Routes: the router of a resource, and the dependencies of its handlers."""

from timberframe.http.bulk import EXPORT_RESPONSES, IMPORT_RESPONSES, export_of, import_of
from timberframe.http.dependencies import (
    CurrentSuperuser,
    CurrentUser,
    DbRead,
    DbSession,
    DbWrite,
    OptionalUser,
    get_current_user,
    superuser_only,
)
from timberframe.http.events import EVENT_RESPONSES, EventStream, followed
from timberframe.http.jobs import router as jobs_router
from timberframe.http.preconditions import check_precondition
from timberframe.http.problems import problems
from timberframe.http.resources import (
    creator_of,
    listed,
    readable,
    readable_model,
    unchanged,
    writable,
)
from timberframe.http.routing import LineRoute, Router
from timberframe.http.sign_in import PasswordChecked, SignIn, limit_sign_ups
from timberframe.http.transfers import Download
from timberframe.http.webhooks import checked_url

__all__ = [
    "EVENT_RESPONSES",
    "EXPORT_RESPONSES",
    "IMPORT_RESPONSES",
    "CurrentSuperuser",
    "CurrentUser",
    "DbRead",
    "DbSession",
    "DbWrite",
    "Download",
    "EventStream",
    "LineRoute",
    "OptionalUser",
    "PasswordChecked",
    "Router",
    "SignIn",
    "check_precondition",
    "checked_url",
    "creator_of",
    "export_of",
    "followed",
    "get_current_user",
    "import_of",
    "jobs_router",
    "limit_sign_ups",
    "listed",
    "problems",
    "readable",
    "readable_model",
    "superuser_only",
    "unchanged",
    "writable",
]
