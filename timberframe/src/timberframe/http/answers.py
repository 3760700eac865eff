"""Response headers derived from what a handler returned: ETag, Location, Link.

RFC 9110 sections 8.8.3 and 10.2.2, RFC 8288.
"""

import inspect
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from fastapi import Request, Response, status
from fastapi.exceptions import ResponseValidationError
from pydantic_core import to_json
from sqlalchemy import inspect as state_of
from sqlalchemy.orm import DeclarativeBase

from timberframe.crud.results import Created, Slice, Stored
from timberframe.data.base import Versioned
from timberframe.data.rows_as_json import SEPARATOR
from timberframe.http.options import HttpOptions
from timberframe.http.preconditions import etag_of, unless_known

_JSON = "application/json"
_SHOWN = 3


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


async def flush_returned(returned: Any) -> None:
    """Flush a model, or a list of models, that the handler has changed or added.

    The answer is made before the commit, so that otherwise it would show the old version, and no
    id. What the database computed is read.
    """
    for row in returned if isinstance(returned, list) else (returned,):
        if not isinstance(row, DeclarativeBase):
            continue
        state = state_of(row)
        db = state.async_session
        if db is None:  # of no session, or of one that is closed
            continue
        if state.pending or state.modified:
            await db.flush()
        if state.expired_attributes:
            await db.refresh(row, state.expired_attributes)


def wrong_return(handler: Callable[..., Any], returned: Any, promised: type | None) -> TypeError:
    """The error of a handler that did not return what it is annotated to return."""
    name = handler.__name__
    if inspect.iscoroutine(returned):
        returned.close()
        return TypeError(f"{name} returned {returned.__qualname__}(…) without `await`")
    said = promised.__name__ if promised else "something else"
    return TypeError(f"{name} returned a {type(returned).__name__}, but its annotation says {said}")


def wrong_fields(
    name: str, returned: Any, response_model: Any, invalid: ResponseValidationError
) -> TypeError:
    """The error of a handler whose answer does not fit; without values, which may be secret."""
    found = [
        f"{'.'.join(map(str, error['loc'][1:])) or 'it'}: {error['msg']}"
        for error in invalid.errors()
    ]
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    model = getattr(response_model, "__name__", response_model)
    return TypeError(
        f"{name} returned a {type(returned).__name__}, but its route answers with {model}:"
        f" {', '.join(found[:_SHOWN])}{more}"
    )


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
            return unless_known(request, response, etag)
    elif response.status_code == status.HTTP_204_NO_CONTENT:
        del response.headers["content-type"]
    return response


def _links(request: Request, page: Slice[Any]) -> str:
    """Absolute URLs if `PUBLIC_URL` is set, otherwise paths: the client knows the host."""
    options: HttpOptions = request.app.state.options
    path = f"{options.public_url}{request.scope['path']}"
    others = [
        pair for pair in request.query_params.multi_items() if pair[0] not in ("skip", "cursor")
    ]
    return ", ".join(
        f'<{path}?{urlencode([*others, ("cursor", cursor)])}>; rel="{relation}"'
        for relation, cursor in (("next", page.next_cursor), ("prev", page.previous_cursor))
        if cursor
    )
