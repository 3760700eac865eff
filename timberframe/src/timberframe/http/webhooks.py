"""The URL of a webhook that is changed: looked up before the request's transaction begins."""

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import Request

from timberframe.http.dependencies import CurrentUser
from timberframe.http.exchange import exchange_of
from timberframe.webhooks.crud import CheckedUrl, Webhooks


def checked_url(crud: Webhooks[Any]) -> Callable[..., Awaitable[CheckedUrl | None]]:
    """The URL in the body, if there is one, and whether it may be called.

    Ask for it before the row: a name may take seconds to look up, for which neither a connection
    nor a lock should be held. A refusal waits until it is known that the caller may change the row.
    """

    async def get_checked_url(request: Request, current_user: CurrentUser) -> CheckedUrl | None:
        sent = exchange_of(request).sent
        url = sent.get("url") if isinstance(sent, dict) else None
        return await crud.check_url(url) if isinstance(url, str) else None

    return get_checked_url
