"""What schemathesis is told of an application, and what it finds wrong."""

import re
from datetime import date, datetime
from typing import Any

import schemathesis
from hypothesis import strategies as st
from schemathesis import CheckContext, HookContext
from schemathesis.config import SchemathesisConfig
from schemathesis.core.failures import Failure
from schemathesis.core.transport import Response
from schemathesis.engine import events, from_schema
from schemathesis.python.asgi import shutdown_lifespans as shutdown_lifespans
from schemathesis.schemas import BaseSchema

from timberframe.http.middleware import API_HEADERS
from timberframe.testing import subject
from timberframe.testing.cast import ADMIN
from timberframe.testing.mirror import Mirror

# What the schema cannot say in full: these grammars are narrower than their formats' names.
LETTERS = st.text("abcxyz019", min_size=1, max_size=20)


def of_length(length: int, letters: str) -> str:
    return letters[:length].ljust(length, "x")


def email_of_length(length: int, letters: str) -> str:
    domain = ("x" * 60 + ".") * (3 if length > 200 else 0) + "example.com"
    return f"{of_length(length - len(domain) - 1, letters)}@{domain}"


# With the lengths where they begin and cease to be valid: schemathesis asks for these, and draws a
# thousand times before it gives up.
EMAILS = st.builds(email_of_length, st.sampled_from((20, 30, 253, 254, 255)), LETTERS)
PASSWORDS = st.builds(
    of_length, st.sampled_from((7, 8, 9, 20, 127, 128, 129)), LETTERS.map("Aa34567{}".format)
)
# Of webhooks: a public address, of which no name server is asked, and which nobody calls.
URLS = st.builds(
    of_length, st.sampled_from((30, 1999, 2000, 2001)), LETTERS.map("https://8.8.8.8/{}".format)
)
# Without the first and the last year, as `Day` and `Moment` in `schemas.fields`.
DAYS = st.dates(date(2, 1, 1), date(9998, 12, 31)).map(date.isoformat)
MOMENTS = st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31)).map(  # noqa: DTZ001 - in UTC
    lambda moment: f"{moment.isoformat()}Z"
)
schemathesis.openapi.format("date", DAYS)
schemathesis.openapi.format("date-time", MOMENTS)
schemathesis.openapi.format("email", EMAILS)
schemathesis.openapi.format("password", PASSWORDS)
schemathesis.openapi.format("uri", URLS)

# On whatever answer: what HTTP itself needs, and what guards browsers.
GENERAL_HEADERS = {"allow", "connection", "content-length", "content-type", "server"}
GENERAL_HEADERS |= {"content-encoding", *(name.lower() for name in API_HEADERS)}


@schemathesis.check
def all_headers_that_are_sent_are_documented(
    ctx: CheckContext, response: Response, case: Any
) -> None:
    responses = case.operation.definition.raw["responses"]
    documented = responses.get(str(response.status_code), responses["default"])["headers"]
    known = {*documented, *subject.app().state.header_names}
    undocumented = response.headers.keys() - GENERAL_HEADERS - {name.lower() for name in known}
    assert not undocumented, f"{response.status_code} with {undocumented}"


TAKEN = [401, 403, 404, 409, 412, 429, "5xx"]
BOUNDED: dict[str, Any] = {
    "seed": 1,
    "generation": {"deterministic": True, "max-examples": 3, "database": "none"},
    # Thousands of requests: the phase that walks through every keyword of every schema.
    "phases": {"coverage": {"enabled": False}},
    # No schema can say which entity tag is the current one.
    "checks": {
        # What was deleted may have been restored by another route, which schemathesis cannot know.
        "use_after_free": {"enabled": False},
        "positive_data_acceptance": {"expected-statuses": [*TAKEN, "2xx", "3xx"]},
        "negative_data_rejection": {
            "expected-statuses": [*TAKEN, 400, 405, 406, 414, 415, 422, 428]
        },
    },
}


def as_admin() -> dict[str, Any]:
    bearer = ADMIN.headers["Authorization"].removeprefix("Bearer ")
    return BOUNDED | {"auth": {"openapi": {"OAuth2PasswordBearer": {"bearer": bearer}}}}


def as_nobody() -> dict[str, Any]:
    return BOUNDED | {"auth": {"auto-signup": False}}


def load(mirror: Mirror, settings: dict[str, Any]) -> BaseSchema:
    config = SchemathesisConfig.from_dict(settings)
    schema = schemathesis.openapi.from_asgi("/api/openapi.json", mirror, config=config)

    @schema.hook
    def filter_failure(context: HookContext, failure: Failure, case: Any, answer: Response) -> bool:
        """What is taken, a cursor of ours, other rows, a file's and URLs no schema can say."""
        code = rb'"code":"(already_exists|invalid_cursor|idempotency_key_reused|broken_file'
        code += rb'|unknown_reference|unknown_events|url_refused)"'
        return not re.search(code, answer.content)

    return schema


def run(schema: BaseSchema) -> tuple[set[str], list[str]]:
    """The operations that were tried with all checks, and all that was found wrong."""
    tried, failures = set(), []
    for event in from_schema(schema).execute():
        match event:
            case events.ScenarioFinished():
                tried |= {node.value.operation.label for node in event.recorder.cases.values()}
                failures += [
                    f"{check.name}: {check.failure_info.failure}\n{check.failure_info.code_sample}"
                    for checks in event.recorder.checks.values()
                    for check in checks
                    if check.failure_info
                ]
            case events.NonFatalError():
                failures.append(f"{event.label}: {event.value!r}")
            case events.FatalError():
                raise event.exception
    return tried, failures


def labels(schema: BaseSchema, *, protected: bool) -> set[str]:
    return {
        f"{method.upper()} {path}"
        for path, operations in schema.raw_schema["paths"].items()
        for method, operation in operations.items()
        if protected or {} in operation.get("security", [{}])
    }
