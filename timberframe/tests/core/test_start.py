"""A process that starts: it says what is wrong with its settings, at once and in plain lines."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from specimen.config import Settings
from timberframe.testing.process import command as project_command

ROOT = str(Settings.project.root)
PYTHON = [sys.executable, "-c", "import specimen.main"]
SERVE = [*project_command(), "serve"]


def run(command: list[str], folder: Path, **values: str) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if k not in Settings.model_fields}
    env = inherited | {"ENV_FILE": str(folder / "my.env"), "PYTHONPATH": ROOT} | values
    return subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, timeout=30, check=False
    )


@pytest.mark.parametrize("command", [PYTHON, SERVE], ids=["python", "serve"])
def test_bad_settings_end_it_with_a_line_for_each(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "my.env").write_text("ENVIRONMENT=production\nPORT=0\nSECRET_KEEY=canary\n")
    ended = run(command, tmp_path)
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
    assert started.stderr == "SECRET_KEY is not set: tokens are invalid after a restart\n"
