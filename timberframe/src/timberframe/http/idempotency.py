"""`Idempotency-Key`: an answer is stored in the transaction of its effect, and retries get it."""

import json
import re

from fastapi import Request, Response

from timberframe.crud.idempotency import AlreadyAnswered, Answer
from timberframe.errors import InvalidInput
from timberframe.http.exchange import exchange_of

IDEMPOTENCY_KEY = "Idempotency-Key"
IDEMPOTENCY_KEY_PATTERN = "[!-~]{1,255}"
IDEMPOTENCY_METHODS = ("POST", "PATCH")  # PUT and DELETE are idempotent, RFC 9110 section 9.2.2
REPLAYED = "Idempotency-Replayed"
_KEPT_HEADERS = ("content-type", "location", "etag")


def read_key(request: Request) -> str | None:
    """The key, or None if there is none or the method ignores it; `InvalidInput` if malformed."""
    keys = request.headers.getlist(IDEMPOTENCY_KEY)
    if not keys or request.method not in IDEMPOTENCY_METHODS:
        return None
    if len(keys) > 1 or not re.fullmatch(IDEMPOTENCY_KEY_PATTERN, keys[0]):
        raise InvalidInput.at("header", IDEMPOTENCY_KEY, msg="must be 1 to 255 visible characters")
    return keys[0]


async def content_of(request: Request) -> bytes:
    """What identifies the request: method, path, query and body."""
    scope = request.scope
    target = [request.method, scope["path"], scope["query_string"].decode("latin-1")]
    return json.dumps(target).encode() + b"\n" + await request.body()


def has_kept_answer(request: Request) -> bool:
    """Whether this retries a request that was answered, and whose effect is thus committed."""
    return exchange_of(request).kept_answer is not None


async def keep_answer(request: Request, response: Response) -> None:
    """Store the answer if the request had a key; its transaction is still open."""
    keep = exchange_of(request).keep
    if keep is None or response.status_code >= 400:
        return
    # `no-store` marks secrets, such as tokens; a response without a body attribute is a stream.
    if "no-store" in response.headers.get("cache-control", "") or not hasattr(response, "body"):
        return
    headers = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
    await keep(Answer(response.status_code, headers, bytes(response.body)))


def give_kept_answer(request: Request) -> None:
    """Raise `AlreadyAnswered` for a retry of a request that was answered."""
    if answer := exchange_of(request).kept_answer:
        raise AlreadyAnswered(answer)


async def handle_already_answered(request: Request, done: AlreadyAnswered) -> Response:
    """Replay the first answer, marked with `Idempotency-Replayed`."""
    answer = done.answer
    return Response(answer.body, answer.status, answer.headers | {REPLAYED: "true"})
