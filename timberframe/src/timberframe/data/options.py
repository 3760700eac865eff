"""The settings that the database layer needs."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from timberframe.project import Project
from timberframe.settings import Settings


@dataclass(frozen=True)
class DatabaseOptions:
    """`url` names an async driver; times are in seconds."""

    url: str = field(repr=False)
    secret: str = field(repr=False)  # signs cursors, and hashes idempotency keys
    project: Project
    replica_url: str | None = field(default=None, repr=False)
    replica_max_lag: float = 10
    pool_size: int = 10
    pool_timeout: float = 5
    statement_timeout: float = 10
    list_timeout: float = 5
    lock_timeout: float = 5

    @classmethod
    def of(cls, settings: Settings) -> Self:
        replica_url = settings.DATABASE_REPLICA_URL
        return cls(
            url=settings.DATABASE_URL.get_secret_value(),
            secret=settings.SECRET_KEY.get_secret_value(),
            project=settings.project,
            replica_url=replica_url.get_secret_value() if replica_url else None,
            replica_max_lag=settings.DATABASE_REPLICA_MAX_LAG_SECONDS,
            pool_size=settings.DATABASE_POOL_SIZE,
            pool_timeout=settings.DATABASE_POOL_TIMEOUT_SECONDS,
            statement_timeout=settings.DATABASE_STATEMENT_TIMEOUT_SECONDS,
            list_timeout=settings.DATABASE_LIST_TIMEOUT_SECONDS,
            lock_timeout=settings.DATABASE_LOCK_TIMEOUT_SECONDS,
        )

    @property
    def urls(self) -> Mapping[str, str]:
        """The servers' URLs, by the name of their setting."""
        urls = {"DATABASE_URL": self.url, "DATABASE_REPLICA_URL": self.replica_url}
        return {name: url for name, url in urls.items() if url}

    def at(self, url: str) -> Self:
        """The same options for another server, without a replica."""
        return replace(self, url=url, replica_url=None)
