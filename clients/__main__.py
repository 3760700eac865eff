"""Tries myapi with other people's clients: `make clients`. One line for each check.

Linters read the OpenAPI document, and three generators make clients from it. Each client then runs
one flow against a server with two workers: sign up, sign in, create, retry, read pages, and change
a row on condition. OAuth libraries sign in with a right and a wrong password.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx2
from openapi_spec_validator import validate
from timberframe.testing import serving

FOLDER = Path(__file__).parent
GENERATED = FOLDER / "generated"
DOCUMENT = GENERATED / "openapi.json"
NODE = FOLDER / "node_modules" / ".bin"
PYTHON = FOLDER.parent / ".venv-clients" / "bin"
LINTERS: dict[str, Sequence[str | Path]] = {
    "spectral": (
        *(NODE / "spectral", "lint", "--fail-severity=hint", DOCUMENT),
        *("--ruleset", FOLDER / ".spectral.yaml"),
    ),
}
GENERATORS: dict[str, Sequence[str | Path]] = {
    "openapi-typescript": (
        *(NODE / "openapi-typescript", DOCUMENT),
        *("--output", GENERATED / "openapi_typescript.ts"),
        "--default-non-nullable=false",  # else a body must have what has a default
    ),
    "@hey-api/openapi-ts": (
        *(NODE / "openapi-ts", "--client", "@hey-api/client-fetch"),
        *("--input", DOCUMENT, "--output", GENERATED / "hey_api"),
    ),
    "openapi-python-client": (
        *(PYTHON / "openapi-python-client", "generate", "--path", DOCUMENT, "--overwrite"),
        *("--meta", "none", "--output-path", GENERATED / "myapi_client", "--fail-on-warning"),
        *("--config", FOLDER / "python" / "generator.yaml"),
    ),
}
TYPES: dict[str, Sequence[str | Path]] = {
    "tsc --strict": (NODE / "tsc", "--project", FOLDER / "typescript"),
    "mypy --strict": (
        *(PYTHON / "mypy", "--strict", "--cache-dir", GENERATED / ".mypy_cache"),
        *(FOLDER / "python" / "flow.py", FOLDER / "python" / "oauth.py"),
    ),
}
COMPILED = GENERATED / "js" / "typescript"
FLOWS: dict[str, Sequence[str | Path]] = {
    "openapi-fetch": ("node", COMPILED / "openapi_fetch.js"),
    "@hey-api/client-fetch": ("node", COMPILED / "hey_api.js"),
    "openapi-python-client": (PYTHON / "python", FOLDER / "python" / "flow.py"),
    "OAuth libraries": (PYTHON / "python", "-W", "ignore", FOLDER / "python" / "oauth.py"),
}
SERVER = {
    "ENVIRONMENT": "production",
    "ALLOWED_HOSTS": "127.0.0.1",
    "SECRET_KEY": "only-for-a-server-that-lives-for-one-run",
}


def main() -> None:
    GENERATED.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        database = f"sqlite+aiosqlite:///{folder}/clients.db"
        options = ("--migrate", "--workers", "2")
        with serving(*options, DATABASE_URL=database, **SERVER) as server:
            document = httpx2.get(f"{server.url}/api/openapi.json").json()
            DOCUMENT.write_text(json.dumps(document, indent=2))
            passed = check("openapi-spec-validator", lambda: validate(document))
            for commands in (LINTERS, GENERATORS, TYPES, FLOWS):
                for name, command in commands.items():
                    passed &= run(name, command, server.url)
    sys.exit(not passed)


def check(name: str, passes: Callable[[], None]) -> bool:
    try:
        passes()
    except Exception as error:
        print(f"FAIL {name}: {error}")
        return False
    print(f"PASS {name}")
    return True


def run(name: str, command: Sequence[str | Path], url: str) -> bool:
    """A command that says what passed, or else its name and how it failed."""
    environment = os.environ | {
        "BASE_URL": url,
        "PATH": f"{PYTHON}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(GENERATED),
        "MYPYPATH": str(GENERATED),
        # These libraries insist on TLS, which a server on this machine has not.
        "OAUTHLIB_INSECURE_TRANSPORT": "1",
        "AUTHLIB_INSECURE_TRANSPORT": "1",
    }
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, env=environment
    )
    said = [line for line in done.stdout.splitlines() if line.startswith("PASS ")]
    print("\n".join(said or [f"PASS {name}"] * (not done.returncode)), flush=True)
    if done.returncode:
        print(f"FAIL {name}\n{done.stdout[-4000:]}{done.stderr[-4000:]}", flush=True)
    return not done.returncode


main()
