"""A request that can be run again, because what was read of it is kept."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.core.errors import Unavailable
from app.db.retries import TransactionConflict


class RepeatableRequest:
    """Each attempt reads the same body; none comes after the answer has begun."""

    def __init__(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        self._app = app
        self._scope = scope
        self._receive = receive
        self._send = send
        self._received: list[Message] = []  # no more than the body's limit
        self._is_answered = False

    async def attempt(self) -> None:
        """Run the request; raise `TransactionConflict` if it may be run again."""
        earlier = iter(tuple(self._received))

        async def receive() -> Message:
            return next(earlier, None) or await self._receive_new()

        try:
            await self._app(self._scope, receive, self._send_noting)
        except TransactionConflict as conflict:
            if self._is_answered:  # in a background task
                raise Unavailable("The database") from conflict
            raise

    async def _receive_new(self) -> Message:
        message = await self._receive()
        self._received.append(message)
        return message

    async def _send_noting(self, message: Message) -> None:
        self._is_answered = True
        await self._send(message)
