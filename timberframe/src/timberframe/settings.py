"""The settings of the frame, which the application's own settings extend.

`load` reads them once, at the start: from the environment, then `.env`, then a folder of secrets.
"""

import difflib
import json
import os
import re
import secrets
import sys
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, ClassVar, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from timberframe.project import Project

MIN_SECRET_KEY_BYTES = 32  # RFC 7518 section 3.2: an HS256 key is at least as long as its hash
_PLACEHOLDER_WORDS = ("change", "replace", "placeholder", "example", "secret", "your-", "your_")
_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}
# Those of libpq that asyncpg supports: it would send any other as a setting of the server.
_POSTGRESQL_PARAMETERS = {
    *("host", "port", "user", "password", "dbname", "target_session_attrs"),
    *("sslmode", "sslrootcert", "sslcert", "sslkey", "sslpassword", "sslcrl", "sslnegotiation"),
    *("ssl_min_protocol_version", "ssl_max_protocol_version"),
}
_NAMED = {
    "DATABASE_URL": "sqlite:///./{}.db",
    "TOKEN_ISSUER": "{}",
    "TOKEN_AUDIENCE": "{}",
    "MAIL_FROM": "{}@localhost",
}
# `carol@example.com` or `Carol <carol@example.com>`: any letters (RFC 6531), but no quoted words,
# and nothing that ends a line or an address.
_ATOM = r"[^\s\"<>()\[\]:;@\\,.\x00-\x1f\x7f-\x9f\ud800-\udfff]+"
_WORDS = r"[^\"<>@\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+"
MAILBOX = re.compile(
    rf"(?:\"?(?P<name>{_WORDS})\"? ?<)?"
    rf"(?P<local>{_ATOM}(?:\.{_ATOM})*)@(?P<domain>{_ATOM}(?:\.{_ATOM})*)(?(name)>)"
)
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


def split_commas(value: object) -> object:
    """Take `a,b` as well as the JSON list `["a", "b"]`."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return json.loads(value)
    return [item.strip() for item in value.split(",") if item.strip()]


def to_upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


CommaList = Annotated[list[str], NoDecode, BeforeValidator(split_commas)]


class Settings(BaseSettings):
    """Subclass it in `app/core/config.py`, add settings of your own, and `load` the subclass.

    Names are the guide's where it has one; the README's table explains each.
    """

    # The project, as `load` found it.
    project: ClassVar[Project]

    model_config = SettingsConfigDict(
        case_sensitive=True,
        env_ignore_empty=True,
        extra="forbid",
        hide_input_in_errors=True,
        validate_default=True,
    )

    # First, because the validators of other settings read it.
    ENVIRONMENT: Literal["development", "production"] = "development"

    # API
    PROJECT_NAME: str = "API"
    VERSION: str = "1.0.0"
    DESCRIPTION: str = ""
    API_V1_PREFIX: str = Field(default="/api/v1", pattern=r"^(/[A-Za-z0-9._-]+)+$")
    DOCS_ENABLED: bool = True
    # The prefix under which a proxy publishes the API
    ROOT_PATH: str = Field(default="", pattern=r"^(/[A-Za-z0-9._-]+)*$")

    # Server
    HOST: str = "127.0.0.1"
    PORT: int = Field(default=8000, ge=1, le=65535)
    WEB_CONCURRENCY: int = Field(default=1, ge=1, le=256)
    GRACEFUL_TIMEOUT_SECONDS: int = Field(default=30, ge=1)
    LOG_LEVEL: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(to_upper)
    ] = "INFO"
    ALLOWED_HOSTS: CommaList = []
    ALLOWED_ORIGINS: CommaList = ["http://localhost:3000"]
    TRUSTED_PROXIES: CommaList = []
    PUBLIC_URL: str | None = None
    WEBSOCKETS: bool = False
    MAX_CONNECTIONS: int | None = Field(default=None, ge=10)
    MAX_BODY_BYTES: int = Field(default=1024 * 1024, ge=1024)
    BODY_PIECE_TIMEOUT_SECONDS: float = Field(default=10, gt=0)
    BODY_TIMEOUT_SECONDS: float = Field(default=60, gt=0)
    IMPORT_MAX_BODY_BYTES: int = Field(default=512 * 1024 * 1024, ge=1024)
    IMPORT_BODY_TIMEOUT_SECONDS: float = Field(default=900, gt=0)
    # Off, each request takes all of FastAPI's own steps: dearer, and the same answers.
    DIRECT_READS: bool = True
    IF_MATCH_REQUIRED: bool = False
    IDEMPOTENCY_KEY_HOURS: int = Field(default=24, ge=1, le=24 * 366)

    # Database
    DATABASE_URL: SecretStr = SecretStr("")
    # Lists and items are read there, except by users who have just written
    DATABASE_REPLICA_URL: SecretStr | None = None
    DATABASE_REPLICA_MAX_LAG_SECONDS: float = Field(default=10, gt=0)
    DATABASE_POOL_SIZE: int = Field(default=10, ge=1)
    DATABASE_POOL_TIMEOUT_SECONDS: float = Field(default=5, gt=0)
    DATABASE_STATEMENT_TIMEOUT_SECONDS: float = Field(default=10, gt=0)
    DATABASE_LIST_TIMEOUT_SECONDS: float = Field(default=5, gt=0)
    DATABASE_LOCK_TIMEOUT_SECONDS: float = Field(default=5, gt=0)

    # Security
    SECRET_KEY: SecretStr = SecretStr("")
    ALGORITHM: Literal["HS256", "HS384", "HS512"] = "HS256"
    ACCESS_TOKEN_EXPIRE_MINUTES: int = Field(default=30, ge=1, le=24 * 60)
    TOKEN_ISSUER: str = ""
    TOKEN_AUDIENCE: str = ""
    SIGN_IN_WINDOW_MINUTES: int = Field(default=15, ge=1)
    SIGN_IN_FAILURES_PER_ACCOUNT: int = Field(default=10, ge=1)
    SIGN_IN_FAILURES_PER_ADDRESS: int = Field(default=100, ge=1)
    SIGN_UPS_PER_MINUTE: int = Field(default=200, ge=1)

    # Background jobs
    # One worker runs beside `serve`; off, `worker` runs them elsewhere
    EMBEDDED_WORKER: bool = True
    JOBS_CONCURRENCY: int = Field(default=8, ge=1, le=1000)
    JOBS_LEASE_SECONDS: float = Field(default=30, ge=1, le=3600)
    JOBS_DAYS: int = Field(default=7, ge=1)
    # Readiness is `degraded` once a job that is due has waited for longer
    JOBS_MAX_WAIT_SECONDS: float = Field(default=300, gt=0)

    # Events: changes of resources, for webhooks and live streams
    EVENTS_DAYS: int = Field(default=7, ge=1)
    # In each process; a client is a user, or the network address of somebody who has not signed in
    MAX_EVENT_STREAMS: int = Field(default=200, ge=1)
    MAX_EVENT_STREAMS_PER_CLIENT: int = Field(default=10, ge=1)

    # Webhooks: without networks of your own, only public addresses are called
    WEBHOOK_TIMEOUT_SECONDS: float = Field(default=10, gt=0, le=60)
    WEBHOOK_ALLOWED_NETWORKS: CommaList = []

    # Redis or Valkey: counters shared by all processes; without it each counts for itself
    REDIS_URL: SecretStr | None = None

    # Mail: without a server, messages are written to MAIL_FOLDER
    SMTP_URL: SecretStr | None = None
    MAIL_FROM: str = ""
    MAIL_FOLDER: Path = Path("outbox")

    @field_validator("DATABASE_URL", "TOKEN_ISSUER", "TOKEN_AUDIENCE", "MAIL_FROM", mode="before")
    @classmethod
    def name_after_project(cls, value: object, info: ValidationInfo) -> object:
        """Fill in defaults that contain the project's name; an empty value means the default."""
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        return value if text else _NAMED[str(info.field_name)].format(cls.project.name)

    @field_validator("PUBLIC_URL")
    @classmethod
    def check_public_url(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"https?://[\w.:\[\]-]+", value, re.ASCII):
            raise ValueError("must be a scheme and a host, such as https://api.example.com")
        return value

    @field_validator("ROOT_PATH")
    @classmethod
    def check_root_path(cls, value: str, info: ValidationInfo) -> str:
        """Proxies may forward the prefix or strip it, so a path must show which they did."""
        own = ("/api", "/health", info.data.get("API_V1_PREFIX", ""))
        if value and any(f"{path}/".startswith(f"{value}/") for path in own):
            raise ValueError(
                "must not be a prefix of the API's own paths: to publish those, leave it empty"
            )
        return value

    @field_validator("ALLOWED_HOSTS", "TRUSTED_PROXIES")
    @classmethod
    def check_hosts(cls, value: list[str], info: ValidationInfo) -> list[str]:
        if _in_production(info):
            if "*" in value:
                raise ValueError("must not contain * in production")
            if info.field_name == "ALLOWED_HOSTS" and not value:
                raise ValueError("must name the hosts this API answers for in production")
        return value

    @field_validator("ALLOWED_ORIGINS")
    @classmethod
    def check_origins(cls, value: list[str], info: ValidationInfo) -> list[str]:
        if _in_production(info) and "*" in value:
            raise ValueError("must not contain * in production")
        if any(o != "*" and not o.startswith(("http://", "https://")) for o in value):
            raise ValueError("must be origins such as https://shop.example.com")
        return [origin.rstrip("/") for origin in value]

    @field_validator("WEBHOOK_ALLOWED_NETWORKS")
    @classmethod
    def check_networks(cls, value: list[str]) -> list[str]:
        try:
            return [str(ip_network(network)) for network in value]
        except ValueError:
            raise ValueError("must be networks such as 10.1.0.0/16 or fd00:1::/64") from None

    @field_validator("DATABASE_URL", "DATABASE_REPLICA_URL")
    @classmethod
    def name_async_driver(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is None:
            return None
        try:
            url = make_url(value.get_secret_value())
        except (ArgumentError, ValueError):
            raise ValueError("is not a database URL") from None
        scheme = "postgresql" if url.drivername == "postgres" else url.drivername
        driver = _DRIVERS.get(scheme, scheme)
        if driver not in _DRIVERS.values():
            raise ValueError("must start with sqlite:// or postgresql://")
        if driver == _DRIVERS["sqlite"] and url.database in (None, "", ":memory:"):
            raise ValueError("must name a file, as in sqlite:///./myapi.db")
        if driver == _DRIVERS["postgresql"]:
            if "@" in f"{url.host}{url.database}":  # a part of the password, then
                raise ValueError("has one @ too many: in a password it is written %40")
            _check_parameters(url)
        if info.field_name == "DATABASE_REPLICA_URL" and not _is_postgresql(url, info):
            raise ValueError("needs PostgreSQL, here and in DATABASE_URL")
        return SecretStr(url.set(drivername=driver).render_as_string(hide_password=False))

    @field_validator("SECRET_KEY")
    @classmethod
    def check_secret_key(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        key = value.get_secret_value()
        if not _in_production(info):
            return value if key else SecretStr(_key_for_this_run())
        if not key:
            raise ValueError("is missing")
        if len(key.encode()) < MIN_SECRET_KEY_BYTES:
            raise ValueError(f"must be at least {MIN_SECRET_KEY_BYTES} bytes long")
        is_monotonous = len(set(key)) < 8 or key in (key + key)[1:-1]
        if is_monotonous or any(word in key.lower() for word in _PLACEHOLDER_WORDS):
            raise ValueError("is a placeholder, not a random key")
        database_url = info.data.get("DATABASE_URL")
        if database_url and make_url(database_url.get_secret_value()).password == key:
            raise ValueError("must differ from the database's password")
        return value

    @field_validator("REDIS_URL", "SMTP_URL")
    @classmethod
    def check_scheme(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        schemes = (
            ("redis://", "rediss://") if info.field_name == "REDIS_URL" else ("smtp://", "smtps://")
        )
        if value and not value.get_secret_value().startswith(schemes):
            raise ValueError(f"must start with {' or '.join(schemes)}")
        try:
            url = urlsplit(value.get_secret_value()) if value else None
            _ = url and url.port
        except ValueError:
            raise ValueError("must have a number as its port") from None
        if url and info.field_name == "SMTP_URL":
            if url.path.strip("/") or url.query or url.fragment:  # a part of the password, then
                raise ValueError(
                    "must end with the host or its port; in a password, / is %2F, ? %3F and # %23"
                )
            if not url.hostname:
                raise ValueError("must name a host")
        return value

    @field_validator("MAIL_FROM")
    @classmethod
    def check_mail_from(cls, value: str) -> str:
        found = MAILBOX.fullmatch(value)
        try:
            _ = found and found["domain"].encode("idna")
        except UnicodeError:
            found = None
        if found is None:
            raise ValueError(
                "must be an address, such as shop@example.com or Shop <shop@example.com>"
            )
        return value

    @property
    def is_production(self) -> bool:
        return self.ENVIRONMENT == "production"


def _is_postgresql(url: URL, info: ValidationInfo) -> bool:
    primary = info.data.get("DATABASE_URL")
    urls = (url, make_url(primary.get_secret_value())) if primary else (url,)
    return all(each.get_backend_name() in ("postgresql", "postgres") for each in urls)


def _check_parameters(url: URL) -> None:
    if not url.query.keys() <= _POSTGRESQL_PARAMETERS:
        # Do not name the unknown one: it may be part of a password that was not escaped.
        known = ", ".join(sorted(_POSTGRESQL_PARAMETERS))
        raise ValueError(f"has an unknown parameter; known are {known}")
    if url.query.get("sslmode", "prefer") not in _SSL_MODES:
        raise ValueError(f"must have an sslmode of {', '.join(_SSL_MODES)}")


def _in_production(info: ValidationInfo) -> bool:
    return info.data.get("ENVIRONMENT") == "production"


def _key_for_this_run() -> str:
    """A random key for development, left in the environment so that worker processes share it."""
    sys.stderr.write("SECRET_KEY is not set: tokens are invalid after a restart\n")
    return os.environ.setdefault("SECRET_KEY", secrets.token_urlsafe(MIN_SECRET_KEY_BYTES))


SettingsT = TypeVar("SettingsT", bound=Settings)


def load(settings_class: type[SettingsT]) -> SettingsT:
    """Read the settings, or end the process with one line for each setting at fault."""
    settings_class.project = Project.of_module(settings_class.__module__)
    secrets_folder = os.environ.get("SECRETS_DIR", "/run/secrets")
    try:
        return settings_class(
            _env_file=os.environ.get("ENV_FILE", ".env"),
            _secrets_dir=secrets_folder if Path(secrets_folder).is_dir() else None,
        )
    except ValidationError as invalid:
        known = list(settings_class.model_fields)
        lines = {error["loc"][0]: _describe(error, known) for error in reversed(invalid.errors())}
        raise SystemExit("\n".join(reversed(lines.values()))) from None
    except UnicodeDecodeError:
        raise SystemExit("The settings file is not UTF-8") from None


def _describe(error: ErrorDetails, known: list[str]) -> str:
    name = str(error["loc"][0])
    if error["type"] != "extra_forbidden":
        return f"{name}: {error['msg'].removeprefix('Value error, ')}"
    nearest = difflib.get_close_matches(name.upper(), known, n=1)
    return f"{name}: unknown setting" + (f", did you mean {nearest[0]}?" if nearest else "")
