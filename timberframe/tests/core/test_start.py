"""A process that starts: it says what is wrong with its settings, at once and in plain lines."""

from pathlib import Path

from timberframe.testing import run_command

BAD = """
ENVIRONMENT=production
PORT=0
SECRET_KEEY=canary
DATABASE_URL=postgresql://carol:can@ary@host/shop
"""


# What the tests have set for themselves.
WITHOUT_SETTINGS = """
import os
from timberframe.settings import Settings

for name in Settings.model_fields:
    os.environ.pop(name, None)
"""


def test_bad_settings_end_it_with_a_line_for_each(tmp_path: Path) -> None:
    file = tmp_path / "my.env"
    file.write_text(BAD)
    ended = run_command("serve", before=WITHOUT_SETTINGS, ENV_FILE=str(file))
    assert (ended.returncode, ended.stdout) == (1, "")
    assert sorted(ended.stderr.splitlines()) == [
        "ALLOWED_HOSTS: must name the hosts this API answers for in production",
        "DATABASE_URL: has one @ too many: in a password it is written %40",
        "PORT: Input should be greater than or equal to 1",
        "SECRET_KEEY: unknown setting, did you mean SECRET_KEY?",
        "SECRET_KEY: is missing",
    ]


def test_process_in_development_starts_without_a_key_and_warns() -> None:
    started = run_command("routes", before=WITHOUT_SETTINGS)
    assert started.returncode == 0
    assert started.stderr == "SECRET_KEY is not set: tokens are invalid after a restart\n"
