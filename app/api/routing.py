"""How requests are read and run: identifiers are digits, JSON is RFC 8259 to the letter."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.convertors import Convertor, register_url_convertor
from starlette.types import Receive, Scope, Send

from app.api.idempotency import keep_answer
from app.api.representation import describe, noting_what_it_returns
from app.api.retries import RepeatableRequest
from app.core import strict_json
from app.db.base import MAX_ID
from app.db.retries import retrying


class IdConvertor(Convertor[int]):
    """`{user_id:id}`: what is no identifier matches no route, so that `/users/me` is never one."""

    regex = f"[0-9]{{1,{len(str(MAX_ID))}}}"

    def convert(self, value: str) -> int:
        return int(value)

    def to_string(self, value: int) -> str:
        return str(value)


register_url_convertor("id", IdConvertor())


class StrictRoute(APIRoute):
    """A route that takes UTF-8 alone, no NaN or Infinity, and no name twice in one object.

    Otherwise two parsers could see two things in one body. After a conflict between transactions
    the whole request runs again, unseen by the client. What the handler returns is described in
    the headers of the answer.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, noting_what_it_returns(endpoint), **options)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await retrying(RepeatableRequest(super().handle, scope, receive, send).attempt)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_strictly(request: Request) -> Response:
            strict_request = StrictRequest(request.scope, request.receive)
            response = describe(strict_request, await handle(strict_request))
            await keep_answer(strict_request, response)
            return response

        return handle_strictly


class StrictRequest(Request):
    async def json(self) -> Any:
        try:
            text = (await self.body()).decode()
        except UnicodeDecodeError:
            strict_json.refuse("Not UTF-8")
        return strict_json.loads(text)
