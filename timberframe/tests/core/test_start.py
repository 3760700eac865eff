"""A process that starts: it says what is wrong with its settings, at once and in plain lines."""

import os
import subprocess
from pathlib import Path

from specimen.config import Settings
from timberframe.testing.process import command as project_command

ROOT = str(Settings.project.root)
BAD = """
ENVIRONMENT=production
PORT=0
SECRET_KEEY=canary
DATABASE_URL=postgresql://carol:can@ary@host/shop
"""


def run(name: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command that imports the application."""
    inherited = {k: v for k, v in os.environ.items() if k not in Settings.model_fields}
    return subprocess.run(
        [*project_command(), name],
        cwd=folder,
        env=inherited | {"ENV_FILE": str(folder / "my.env"), "PYTHONPATH": ROOT},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_bad_settings_end_it_with_a_line_for_each(tmp_path: Path) -> None:
    (tmp_path / "my.env").write_text(BAD)
    ended = run("serve", tmp_path)
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert sorted(ended.stderr.splitlines()) == [
        "ALLOWED_HOSTS: must name the hosts this API answers for in production",
        "DATABASE_URL: has one @ too many: in a password it is written %40",
        "PORT: Input should be greater than or equal to 1",
        "SECRET_KEEY: unknown setting, did you mean SECRET_KEY?",
        "SECRET_KEY: is missing",
    ]


def test_process_in_development_starts_without_a_key_and_warns(tmp_path: Path) -> None:
    started = run("routes", tmp_path)
    assert started.returncode == 0
    assert started.stderr == "SECRET_KEY is not set: tokens are invalid after a restart\n"
