"""`Idempotency-Key`: the answer is kept together with its effect, and given again to a retry."""

from fastapi import Request, Response

from app.crud.idempotency_key import AlreadyAnswered, Answer
from app.dependencies import has_kept_answer

REPLAYED = "Idempotency-Replayed"
_KEPT_HEADERS = ("content-type", "location", "etag")


async def keep_answer(request: Request, response: Response) -> None:
    """Store the answer if the request had a key; its transaction is still open."""
    remember = getattr(request.state, "remember", None)
    if remember is None or response.status_code >= 400:
        return
    # What may not be stored is a secret, such as a token; what has no body is a stream.
    if "no-store" in response.headers.get("cache-control", "") or not hasattr(response, "body"):
        return
    headers = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
    await remember(Answer(response.status_code, headers, bytes(response.body)))


def give_kept_answer(request: Request) -> None:
    """Raise `AlreadyAnswered` for a retry of a request that was answered."""
    if has_kept_answer(request):
        raise AlreadyAnswered(request.state.kept_answer)


async def handle_already_answered(request: Request, done: AlreadyAnswered) -> Response:
    """Give the first answer again, and say that it is not a new one."""
    answer = done.answer
    return Response(answer.body, answer.status, answer.headers | {REPLAYED: "true"})
