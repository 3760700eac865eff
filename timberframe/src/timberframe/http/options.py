"""The settings that the routes need."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Self

from timberframe.settings import Settings


@dataclass(frozen=True)
class HttpOptions:
    """`public_url` is where clients reach the API, without a path; empty if it is not set."""

    idempotency_lifetime: timedelta
    is_if_match_required: bool
    public_url: str
    root_path: str
    import_max_bytes: int
    jobs_max_wait_seconds: float

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls(
            idempotency_lifetime=timedelta(hours=settings.IDEMPOTENCY_KEY_HOURS),
            is_if_match_required=settings.IF_MATCH_REQUIRED,
            public_url=settings.PUBLIC_URL or "",
            root_path=settings.ROOT_PATH,
            import_max_bytes=settings.IMPORT_MAX_BODY_BYTES,
            jobs_max_wait_seconds=settings.JOBS_MAX_WAIT_SECONDS,
        )
