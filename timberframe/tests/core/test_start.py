"""A process that starts: it says what is wrong with its settings, at once and in plain lines."""

import os
from pathlib import Path

from specimen.config import Settings
from timberframe.testing.forked import exit_code, fork_command

ROOT = str(Settings.project.root)
BAD = """
ENVIRONMENT=production
PORT=0
SECRET_KEEY=canary
DATABASE_URL=postgresql://carol:can@ary@host/shop
"""


def run(name: str, folder: Path) -> tuple[int, str, str]:
    """Run a command that imports the application: its exit code, output and errors."""
    inherited = {k: v for k, v in os.environ.items() if k not in Settings.model_fields}
    output, errors = folder / "output", folder / "errors"
    output.touch()
    errors.touch()
    process = fork_command(
        name,
        environment=inherited | {"ENV_FILE": str(folder / "my.env"), "PYTHONPATH": ROOT},
        files=(os.devnull, output, errors),
    )
    code = exit_code(process, within=60)
    return code, output.read_text(), errors.read_text()


def test_bad_settings_end_it_with_a_line_for_each(tmp_path: Path) -> None:
    (tmp_path / "my.env").write_text(BAD)
    code, output, errors = run("serve", tmp_path)
    assert (code, output) == (1, "")
    assert sorted(errors.splitlines()) == [
        "ALLOWED_HOSTS: must name the hosts this API answers for in production",
        "DATABASE_URL: has one @ too many: in a password it is written %40",
        "PORT: Input should be greater than or equal to 1",
        "SECRET_KEEY: unknown setting, did you mean SECRET_KEY?",
        "SECRET_KEY: is missing",
    ]


def test_process_in_development_starts_without_a_key_and_warns(tmp_path: Path) -> None:
    code, _, errors = run("routes", tmp_path)
    assert code == 0
    assert errors == "SECRET_KEY is not set: tokens are invalid after a restart\n"
