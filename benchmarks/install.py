"""What only the guide's way needs, in a virtual environment of its own."""

import os
import shutil
import subprocess
import sys

from benchmarks.systems import BIN, GUIDE_BIN, ROOT

LOCK = ROOT / "benchmarks" / "requirements.lock"


def install_guide() -> None:
    """Make `.venv-bench` what the lock says; nothing is fetched when it already is."""
    uv = shutil.which("uv", path=os.pathsep.join([os.environ.get("PATH", ""), str(BIN)]))
    if uv is None:
        sys.exit("uv was not found: run `make bench`, which installs it")
    python = str(GUIDE_BIN / "python")
    if not GUIDE_BIN.exists():
        venv = str(GUIDE_BIN.parent)
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, venv], check=True)
    sync = [uv, "pip", "sync", "--quiet", "--require-hashes", "--python", python, str(LOCK)]
    subprocess.run(sync, check=True)
