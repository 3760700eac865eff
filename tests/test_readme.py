"""What the README and the example settings promise."""

import re
from pathlib import Path

from app.core.config import Settings

ROOT = Path(__file__).parents[1]


def test_every_setting_stands_in_the_readme() -> None:
    table = (ROOT / "README.md").read_text().partition("## Settings")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert set(re.findall(r"`(\w+)`", " ".join(rows))) == set(Settings.model_fields)


def test_example_settings_are_known() -> None:
    example = (ROOT / ".env.example").read_text()
    assert set(re.findall(r"^(\w+)=", example, re.MULTILINE)) <= set(Settings.model_fields)
