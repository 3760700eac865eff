"""A process that starts: it says what is wrong with its settings, at once and in plain lines."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from specimen.config import Settings

PYTHON = [sys.executable, "-c", "import app.main"]
MYAPI = [str(Path(sys.executable).with_name("specimen")), "serve"]


def run(command: list[str], folder: Path, **values: str) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if k not in Settings.model_fields}
    env = inherited | {"ENV_FILE": str(folder / "my.env")} | values
    return subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, timeout=30, check=False
    )


def run_timed(command: list[str], folder: Path) -> tuple[subprocess.CompletedProcess[str], float]:
    """Its result, and the seconds of CPU it took: a busy machine does not count."""

    def children_seconds() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    before = children_seconds()
    return run(command, folder), children_seconds() - before


@pytest.mark.parametrize("command", [PYTHON, MYAPI], ids=["python", "specimen"])
def test_process_with_bad_settings_ends_at_once(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "my.env").write_text("ENVIRONMENT=production\nPORT=0\nSECRET_KEEY=canary\n")
    ended, seconds = run_timed(command, tmp_path)
    assert seconds < 2
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert sorted(ended.stderr.splitlines()) == [
        "ALLOWED_HOSTS: must name the hosts this API answers for in production",
        "PORT: Input should be greater than or equal to 1",
        "SECRET_KEEY: unknown setting, did you mean SECRET_KEY?",
        "SECRET_KEY: is missing",
    ]


def test_process_in_development_starts_without_a_key_and_warns(tmp_path: Path) -> None:
    started = run(PYTHON, tmp_path)
    assert started.returncode == 0
    assert started.stderr == "SECRET_KEY is not set: tokens end with this process\n"
