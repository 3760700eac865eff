"""Response headers derived from what a handler returned: ETag, Location, Link.

RFC 9110 sections 8.8.3, 10.2.2 and 13, RFC 8288.
"""

import re
from typing import Any
from urllib.parse import urlencode

from fastapi import Request, Response, status
from pydantic_core import to_json

from timberframe.crud.results import Created, Slice, Stored
from timberframe.data.base import Versioned
from timberframe.data.rows_as_json import SEPARATOR
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
_JSON = "application/json"
CONDITIONAL_METHODS = ("PUT", "PATCH", "DELETE")


def answer_with(returned: Any) -> Any:
    """Wrap JSON from the database in a response; FastAPI serializes anything else."""
    match returned:
        case Created():
            return _json_response(returned.content, status.HTTP_201_CREATED)
        case Stored():
            return _json_response(returned.content)
        case Slice():
            return _json_response(_page(returned))
    return returned


def end_line(response: Response) -> None:
    """Append a newline to JSON that FastAPI made, as all our JSON has one, for terminal users."""
    body: bytes = getattr(response, "body", b"")  # a stream has none
    if response.media_type == _JSON and body and not body.endswith(b"\n"):
        response.body = body + b"\n"
        response.headers["content-length"] = str(len(response.body))


def _json_response(content: str, status_code: int = status.HTTP_200_OK) -> Response:
    return Response(f"{content}\n", status_code, media_type=_JSON)


def _page(page: Slice[Any]) -> str:
    """The same shape as `schemas.Page`."""
    around = {
        "total": page.total,
        "total_is": page.total_is,
        "page": page.page,
        "size": page.size,
        "next_cursor": page.next_cursor,
    }
    return f'{{"items":[{page.items.replace(SEPARATOR, ",")}],{to_json(around).decode()[1:]}'


def describe(request: Request, response: Response, returned: Any) -> Response:
    """Add the headers; answer 304 if the client already has this version."""
    if isinstance(returned, Slice):
        if link := _links(request, returned):
            response.headers["Link"] = link
    elif isinstance(returned, (Stored, Versioned)) and returned.version:
        etag = response.headers["ETag"] = etag_of(returned)
        if isinstance(returned, Created):
            response.headers["Location"] = f"{request.url.path.rstrip('/')}/{returned.id}"
        if request.method == "GET":
            return _unless_known(request, response, etag)
    elif response.status_code == status.HTTP_204_NO_CONTENT:
        del response.headers["content-type"]
    return response


def _unless_known(request: Request, response: Response, etag: str) -> Response:
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
    if expected is None and _options_of(request).is_if_match_required:
        raise PreconditionRequired
    name = type(resource).__name__
    if expected is not None and not _spelling_in(expected, etag):
        raise PreconditionFailed(f"{name} has changed since: read it again")
    if known is not None and _spelling_in(known, etag):
        raise PreconditionFailed(f"{name} is in the state that If-None-Match excludes")


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


def _links(request: Request, page: Slice[Any]) -> str:
    """Absolute URLs if `PUBLIC_URL` is set, otherwise paths: the client knows the host."""
    path = f"{_options_of(request).public_url}{request.scope['path']}"
    others = [
        pair for pair in request.query_params.multi_items() if pair[0] not in ("skip", "cursor")
    ]
    return ", ".join(
        f'<{path}?{urlencode([*others, ("cursor", cursor)])}>; rel="{relation}"'
        for relation, cursor in (("next", page.next_cursor), ("prev", page.previous_cursor))
        if cursor
    )


def _options_of(request: Request) -> HttpOptions:
    options: HttpOptions = request.app.state.options
    return options
