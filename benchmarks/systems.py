"""The systems that are compared; another one is another entry in `SYSTEMS`."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import distributions
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
GUIDE_BIN = ROOT / ".venv-bench" / "bin"

Engine = Literal["PostgreSQL", "SQLite"]


@dataclass(frozen=True)
class System:
    """A server that answers the requests of `work.py`, started with one worker.

    `{port}` in its command stands for the port to listen on; DATABASE_URL and SECRET_KEY are in
    its environment. It signs in at /auth/login, or takes any HS256 token signed with that key
    whose `sub` is the user's id. The report names the versions of its packages.
    """

    name: str
    engine: Engine
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    signs_in: bool = False
    packages: Sequence[str] = ()

    def versions(self) -> str:
        environment = Path(self.command[0]).parent.parent
        sites = [str(site) for site in environment.glob("lib/python*/site-packages")]
        found = {each.name: each.version for each in distributions(path=sites)}
        return ", ".join(f"{name} {found[name]}" for name in self.packages)


MYAPI_ENVIRONMENT = {
    "ENVIRONMENT": "production",
    "ALLOWED_HOSTS": "127.0.0.1",
    "ACCESS_TOKEN_EXPIRE_MINUTES": "1440",  # longer than a run
    "ENV_FILE": "",  # not the settings of whoever runs this
}
MYAPI_COMMAND = (str(BIN / "myapi"), "serve", "--port", "{port}", "--workers", "1")
MYAPI_PACKAGES = ("fastapi", "pydantic", "SQLAlchemy", "granian", "uvloop")

SYSTEMS = [
    System(
        name="the guide's way",
        engine="PostgreSQL",
        command=(str(GUIDE_BIN / "uvicorn"), "benchmarks.guide.main:app", "--port", "{port}"),
        packages=("fastapi", "pydantic", "SQLAlchemy", "psycopg2-binary", "uvicorn", "uvloop"),
    ),
    System(
        name="myapi, PostgreSQL",
        engine="PostgreSQL",
        command=MYAPI_COMMAND,
        environment=MYAPI_ENVIRONMENT,
        signs_in=True,
        packages=(*MYAPI_PACKAGES, "asyncpg"),
    ),
    System(
        name="myapi, SQLite",
        engine="SQLite",
        command=MYAPI_COMMAND,
        environment=MYAPI_ENVIRONMENT,
        signs_in=True,
        packages=(*MYAPI_PACKAGES, "aiosqlite"),
    ),
]
BASELINE = SYSTEMS[0]
