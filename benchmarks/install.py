"""What the guide's way and the peers need, in environments of their own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.systems import BIN, FASTIFY, GUIDE_BIN, PEERS_BIN, QUEUES_BIN, ROOT, Runtime

GUIDE_LOCK = ROOT / "benchmarks" / "requirements.lock"
PEERS_LOCK = ROOT / "benchmarks" / "peers" / "requirements.lock"
QUEUES_LOCK = ROOT / "benchmarks" / "queues" / "requirements.lock"


def install_guide() -> None:
    """Make `.venv-bench` what the lock says; nothing is fetched when it already is."""
    if wrong := _sync(GUIDE_BIN, GUIDE_LOCK):
        sys.exit(wrong)


def install_peers() -> dict[Runtime, str]:
    """Make theirs too; what cannot be installed, and why."""
    failed: dict[Runtime, str] = {}
    if wrong := _sync(PEERS_BIN, PEERS_LOCK):
        failed["peers"] = wrong
    if wrong := _install_node():
        failed["node"] = wrong
    return failed


def install_queues() -> str | None:
    """Make `.venv-queues` too; return why it cannot be."""
    return _sync(QUEUES_BIN, QUEUES_LOCK)


def _sync(environment: Path, lock: Path) -> str | None:
    uv = shutil.which("uv", path=os.pathsep.join([os.environ.get("PATH", ""), str(BIN)]))
    if uv is None:
        return "uv was not found: `make bench` installs it"
    python = str(environment / "python")
    if not environment.exists():
        venv = [uv, "venv", "--quiet", "--python", sys.executable, str(environment.parent)]
        if wrong := _run(venv):
            return wrong
    return _run([uv, "pip", "sync", "--quiet", "--require-hashes", "--python", python, str(lock)])


def _install_node() -> str | None:
    """Anew only when the lock has changed: npm would remove it all first."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        return "no node"
    lock, installed = FASTIFY / "package-lock.json", FASTIFY / "node_modules" / "installed.json"
    if installed.exists() and installed.read_bytes() == lock.read_bytes():
        return None
    quietly = ("--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
    if wrong := _run([npm, "ci", *quietly, f"--prefix={FASTIFY}"]):
        return wrong
    shutil.copy(lock, installed)
    return None


def _run(command: list[str]) -> str | None:
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if not done.returncode:
        return None
    said = (done.stderr or done.stdout).strip().splitlines()
    return f"{Path(command[0]).name} failed: {said[-1] if said else done.returncode}"
