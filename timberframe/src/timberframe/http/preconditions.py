"""If-Match and If-None-Match, with the version of a row as its entity tag.

RFC 9110 sections 8.8.3 and 13.
"""

import re
from typing import Any

from fastapi import Request, Response, status

from timberframe.crud.results import Stored
from timberframe.data.base import Versioned
from timberframe.errors import PreconditionFailed, PreconditionRequired
from timberframe.http.idempotency import has_kept_answer
from timberframe.http.options import HttpOptions

# Appended to a strong tag on compression, as Apache does; nginx weakens the tag instead.
GZIP_SUFFIX = "-gzip"
# The group captures the version, if the tag is one of ours. Apache appends a suffix each time it
# compresses or decompresses. A version is only digits, so a long tag with many suffixes takes
# linear time.
_ENTITY_TAG = re.compile(
    r'(?:W/)?"(?:([0-9]+)(?:-(?:gzip|gunzip|br|zstd))*|[\x21\x23-\x7e\x80-\xff]*)"'
)
CONDITIONAL_METHODS = ("PUT", "PATCH", "DELETE")


def unless_known(request: Request, response: Response, etag: str) -> Response:
    """RFC 9110 section 13.2.2, for GET."""
    conditions = _conditions(request)
    if not conditions:
        return response
    expected, known = conditions.get(b"if-match"), conditions.get(b"if-none-match")
    if expected is not None and not _spelling_in(expected, etag):
        raise PreconditionFailed("The resource has changed since: read it again")
    if known is not None and (spelling := _spelling_in(known, etag)):
        # A cache looks up its entry by the tag that it stored, so answer with that spelling.
        headers = {"ETag": spelling}
        return Response(status_code=status.HTTP_304_NOT_MODIFIED, headers=headers)
    return response


def check_precondition(request: Request, resource: Versioned) -> None:
    """Raise unless the request's preconditions match the row; RFC 9110 section 13.2.2."""
    if request.method not in CONDITIONAL_METHODS or has_kept_answer(request):
        return  # on a retry, the first attempt has already changed the version
    conditions, etag = _conditions(request), etag_of(resource)
    expected, known = conditions.get(b"if-match"), conditions.get(b"if-none-match")
    if expected is None and _is_required(request):
        raise PreconditionRequired
    name = type(resource).__name__
    if expected is not None and not _spelling_in(expected, etag):
        raise PreconditionFailed(f"{name} has changed since: read it again")
    if known is not None and _spelling_in(known, etag):
        raise PreconditionFailed(f"{name} has a version that If-None-Match excludes")


def etag_of(resource: Versioned | Stored[Any]) -> str:
    return f'"{resource.version}"'


def _conditions(request: Request) -> dict[bytes, str]:
    """The values of `If-Match` and `If-None-Match`."""
    conditions: dict[bytes, str] = {}
    for name, value in request.scope["headers"]:
        if name in _CONDITIONS:
            before = f"{conditions[name]}," if name in conditions else ""
            conditions[name] = before + value.decode("latin-1")
    return conditions


_CONDITIONS = frozenset((b"if-match", b"if-none-match"))


def _spelling_in(condition: str, etag: str) -> str | None:
    """`etag` as it is spelt in a condition, or None if it is not there.

    A tag names a version of a row, not its bytes, so a tag that a proxy has rewritten matches too.
    """
    if condition.strip() == "*":
        return etag
    version = etag.strip('"')
    for tag in _ENTITY_TAG.finditer(condition):
        if tag[1] == version:
            return tag[0]
    return None


def _is_required(request: Request) -> bool:
    options: HttpOptions = request.app.state.options
    return options.is_if_match_required
