"""The errors a client may see; `http/problems.py` turns each into RFC 9457 problem details.

AppError
├── BadRequest 400
│   ├── AlreadyExists 400
│   └── InvalidCursor 400
├── NotAuthenticated 401
│   └── InvalidToken 401
├── NotPermitted 403
├── NotFound 404
├── RequestTimeout 408
├── Conflict 409
│   ├── IdempotencyKeyInUse 409
│   └── RowLimitReached 409
├── PreconditionFailed 412
├── ContentTooLarge 413
├── UriTooLong 414
├── UnsupportedMediaType 415
│   └── UnsupportedContentCoding 415
├── BrokenFile 422
├── IdempotencyKeyReused 422
├── ImportRefused 422
├── InvalidInput 422
│   ├── UnknownEvents 422
│   ├── UnknownReference 422
│   └── UrlRefused 422
├── PreconditionRequired 428
├── RateLimited 429
├── HeadTooLarge 431
├── DeletionUnfinished 503
├── Unavailable 503
├── CommandError: at the command line, never in an answer
└── WrongDeclaration: at the start, never in an answer
"""

from collections.abc import Iterable
from typing import Any, ClassVar, Self


class AppError(Exception):
    """`detail` is for people, `code` for programs; a code never changes its meaning."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"

    def __init__(self, detail: str, *, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.headers = headers or {}
        self.members: dict[str, Any] = {}  # further members of the answer


class CommandError(AppError):
    """A command cannot be run; no client ever sees it, and an operator gets its one line."""

    code = "command_error"


class WrongDeclaration(AppError, TypeError):
    """The declarations of a resource cannot work; the process does not start."""

    code = "wrong_declaration"


class BadRequest(AppError):
    status = 400
    code = "bad_request"


class AlreadyExists(BadRequest):
    """A unique value is taken. 400 rather than 409, because the guide answers so."""

    code = "already_exists"

    def __init__(self, resource: str, field: str) -> None:
        super().__init__(f"{resource} with this {field} already exists")


class InvalidCursor(BadRequest):
    code = "invalid_cursor"


class NotAuthenticated(AppError):
    status = 401
    code = "not_authenticated"
    challenge: ClassVar[str] = "Bearer"

    def __init__(self, detail: str = "Could not validate credentials") -> None:
        super().__init__(detail, headers={"WWW-Authenticate": self.challenge})


class InvalidToken(NotAuthenticated):
    """The bearer token that was sent is not valid, or not any more: RFC 6750 section 3.1.

    Without a token the challenge has no error code, as section 3 there demands.
    """

    challenge = 'Bearer error="invalid_token"'


class NotPermitted(AppError):
    status = 403
    code = "not_permitted"

    def __init__(self, detail: str = "Not enough permissions") -> None:
        super().__init__(detail)


class NotFound(AppError):
    status = 404
    code = "not_found"

    def __init__(self, resource: str) -> None:
        super().__init__(f"{resource} not found")


class RequestTimeout(AppError):
    status = 408
    code = "request_timeout"

    def __init__(self) -> None:
        super().__init__("The body took too long to arrive", headers={"Connection": "close"})


class Conflict(AppError):
    status = 409
    code = "conflict"


class IdempotencyKeyInUse(Conflict):
    code = "idempotency_key_in_use"

    def __init__(self) -> None:
        super().__init__(
            "A request with this Idempotency-Key is being processed", headers={"Retry-After": "1"}
        )


class RowLimitReached(Conflict):
    code = "row_limit_reached"

    def __init__(self, resource: str, rows: int) -> None:
        super().__init__(f"{resource}: one owner may have at most {rows}")


class PreconditionFailed(AppError):
    """RFC 9110 section 13: the current state does not meet the client's precondition."""

    status = 412
    code = "precondition_failed"


class ContentTooLarge(AppError):
    status = 413
    code = "content_too_large"

    def __init__(self, limit_bytes: int) -> None:
        # The rest of the body would be read as the next request.
        super().__init__(
            f"The body is larger than {limit_bytes} bytes", headers={"Connection": "close"}
        )


class UriTooLong(AppError):
    status = 414
    code = "uri_too_long"

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"The path and the query are longer than {limit_bytes} bytes")


class UnsupportedMediaType(AppError):
    status = 415
    code = "unsupported_media_type"

    def __init__(self, expected: str, *, headers: dict[str, str] | None = None) -> None:
        super().__init__(f"The body must be {expected}", headers=headers)


class UnsupportedContentCoding(UnsupportedMediaType):
    """RFC 9110 section 15.5.16: the header says what is accepted."""

    code = "unsupported_content_coding"

    def __init__(self) -> None:
        super().__init__("sent without Content-Encoding", headers={"Accept-Encoding": "identity"})


class BrokenFile(AppError):
    """The file cannot be parsed from this line on; nothing was kept."""

    status = 422
    code = "broken_file"

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"Line {line}: {reason}")
        self.members["line"] = line


class IdempotencyKeyReused(AppError):
    status = 422
    code = "idempotency_key_reused"

    def __init__(self) -> None:
        super().__init__("This Idempotency-Key was used for another request")


class ImportRefused(AppError):
    """Some rows were refused, so none was imported; `report` is that of the import."""

    status = 422
    code = "import_refused"

    def __init__(self, report: dict[str, Any]) -> None:
        super().__init__(f"Nothing was imported, because rows were refused: {report['refused']}")
        self.members = report


class InvalidInput(AppError):
    """The input is not valid; `errors` has Pydantic's form: `loc`, `msg`, `type`."""

    status = 422
    code = "invalid_input"

    def __init__(self, errors: list[dict[str, Any]]) -> None:
        super().__init__("The request is not valid")
        self.members["errors"] = errors

    @classmethod
    def at(cls, *loc: str, msg: str) -> Self:
        return cls([{"loc": loc, "msg": msg, "type": "value_error"}])


class UnknownReference(InvalidInput):
    """The row does not exist, or the caller may not read it; the error does not tell which."""

    code = "unknown_reference"

    def __init__(self, field: str, resource: str) -> None:
        msg = f"no such {resource}"
        super().__init__([{"loc": ("body", field), "msg": msg, "type": self.code}])


class UnknownEvents(InvalidInput):
    """There are no such types of events to subscribe to."""

    code = "unknown_events"

    def __init__(self, known: Iterable[str]) -> None:
        msg = f"must be some of {', '.join(sorted(known))}"
        super().__init__([{"loc": ("body", "events"), "msg": msg, "type": self.code}])


class UrlRefused(InvalidInput):
    """A webhook may not call this URL, or its name cannot be looked up now."""

    code = "url_refused"


class PreconditionRequired(AppError):
    """RFC 6585 section 3."""

    status = 428
    code = "precondition_required"

    def __init__(self) -> None:
        super().__init__("If-Match is required, with the ETag of the version to change")


class RateLimited(AppError):
    status = 429
    code = "rate_limited"

    def __init__(self, retry_after_seconds: int) -> None:
        super().__init__(
            "Too many attempts, try again later",
            headers={"Retry-After": str(retry_after_seconds)},
        )


class HeadTooLarge(AppError):
    status = 431
    code = "head_too_large"

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"The path, the query and the headers are longer than {limit_bytes} bytes")


class DeletionUnfinished(AppError):
    """There is too much to delete in one request; the next one continues."""

    status = 503
    code = "deletion_unfinished"

    def __init__(self) -> None:
        super().__init__(
            "Only a part was deleted: send the same request again to delete the rest",
            headers={"Retry-After": "1"},
        )


class Unavailable(AppError):
    """Something this process needs cannot be reached or is overloaded; nothing was kept."""

    status = 503
    code = "unavailable"

    def __init__(
        self, what: str, *, retry_after_seconds: int = 1, reason: str | None = None
    ) -> None:
        """`reason` is for the operator, at the command line and in the log; no client gets it."""
        super().__init__(
            f"{what} is not available, try again later",
            headers={"Retry-After": str(retry_after_seconds)},
        )
        self.reason = reason


class ReadTooLong(AppError):
    """A list or search was cancelled: it timed out, or it held up shorter ones."""

    status = 503
    code = "read_too_long"

    def __init__(self) -> None:
        detail = "This took too long: narrow it with filters or rarer words, or try again later"
        super().__init__(detail, headers={"Retry-After": "5"})
