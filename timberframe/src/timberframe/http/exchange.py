"""The state of one request, created once by the middleware and shared by all layers."""

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from starlette.types import Scope

from timberframe.crud.idempotency import Answer
from timberframe.crud.policy import Principal

_KEY = "timberframe.exchange"


@dataclass(slots=True)
class Exchange:
    """`request_id` identifies the request in the log; HEAD runs as GET, without its content."""

    request_id: str
    is_head: bool = False
    caller: Principal | None = None
    sent: Any = None  # the JSON body, once it is read
    kept_answer: Answer | None = None  # of an earlier request with the same Idempotency-Key
    keep: Callable[[Answer], Awaitable[None]] | None = None  # for a request with such a key
    returned: Any = None  # by the handler

    @staticmethod
    def of(scope: Scope) -> "Exchange":
        exchange: Exchange | None = scope.get(_KEY)
        if exchange is None:  # a route in an application without the frame's middleware
            exchange = Exchange(secrets.token_hex(16))
            exchange.put_into(scope)
        return exchange

    def put_into(self, scope: Scope) -> None:
        scope[_KEY] = self


def exchange_of(request: Request) -> Exchange:
    return Exchange.of(request.scope)
