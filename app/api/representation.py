"""What an answer says in headers of what the handler returned: ETag, Location, Link.

RFC 9110 sections 8.8.3, 10.2.2 and 13, RFC 8288.
"""

import re
from typing import Any
from urllib.parse import urlencode

from fastapi import Request, Response, status
from pydantic_core import to_json

from app.core.config import settings
from app.core.errors import PreconditionFailed, PreconditionRequired
from app.crud.reading import Created, Slice, Stored
from app.db.base import Versioned
from app.db.json import SEPARATOR

_ENTITY_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')
CONDITIONAL_METHODS = ("PUT", "PATCH", "DELETE")


def answer_with(returned: Any) -> Any:
    """What is JSON already becomes the answer; FastAPI makes one of anything else."""
    match returned:
        case Created():
            return _json_response(returned.content, status.HTTP_201_CREATED)
        case Stored():
            return _json_response(returned.content)
        case Slice():
            return _json_response(_page(returned))
    return returned


def _json_response(content: str, status_code: int = status.HTTP_200_OK) -> Response:
    return Response(content, status_code, media_type="application/json")


def _page(page: Slice[Any]) -> str:
    """As `schemas.Page` has it."""
    around = {
        "total": page.total,
        "total_is": page.total_is,
        "page": page.page,
        "size": page.size,
        "next_cursor": page.next_cursor,
    }
    return f'{{"items":[{page.items.replace(SEPARATOR, ",")}],{to_json(around).decode()[1:]}'


def describe(request: Request, response: Response, returned: Any) -> Response:
    """Add the headers; what the client has already is not sent again."""
    if isinstance(returned, Slice):
        if link := _links(request, returned):
            response.headers["Link"] = link
    elif isinstance(returned, (Stored, Versioned)) and returned.version:
        etag = response.headers["ETag"] = etag_of(returned)
        if isinstance(returned, Created):
            response.headers["Location"] = f"{request.url.path.rstrip('/')}/{returned.id}"
        if request.method == "GET" and _names(request, "If-None-Match", etag, weakly=True):
            return Response(status_code=status.HTTP_304_NOT_MODIFIED, headers={"ETag": etag})
    return response


def check_precondition(request: Request, resource: Versioned) -> None:
    """Raise unless this is the state that the client says it changes."""
    if request.method not in CONDITIONAL_METHODS:
        return
    if "if-match" not in request.headers:
        if settings.IF_MATCH_REQUIRED:
            raise PreconditionRequired
    elif not _names(request, "If-Match", etag_of(resource), weakly=False):
        raise PreconditionFailed(type(resource).__name__)


def etag_of(resource: Versioned | Stored[Any]) -> str:
    return f'"{resource.version}"'


def _names(request: Request, header: str, etag: str, *, weakly: bool) -> bool:
    sent = ",".join(request.headers.getlist(header))
    if sent.strip() == "*":
        return True
    tags = _ENTITY_TAG.findall(sent)
    return etag in ([tag.removeprefix("W/") for tag in tags] if weakly else tags)


def _links(request: Request, page: Slice[Any]) -> str:
    """Relative to the request's own URL, which a proxy may have changed."""
    others = [
        pair for pair in request.query_params.multi_items() if pair[0] not in ("skip", "cursor")
    ]
    return ", ".join(
        f'<?{urlencode([*others, ("cursor", cursor)])}>; rel="{relation}"'
        for relation, cursor in (("next", page.next_cursor), ("prev", page.previous_cursor))
        if cursor
    )
