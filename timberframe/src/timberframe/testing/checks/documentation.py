"""What the README and the example settings promise."""

import re

from timberframe.testing import subject


def test_every_setting_stands_in_the_readme() -> None:
    """In the table below its heading Settings."""
    readme = (subject.project().root / "README.md").read_text()
    table = readme.partition("## Settings")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    documented = set(re.findall(r"`(\w+)`", " ".join(rows)))
    assert documented == set(type(subject.settings()).model_fields)


def test_example_settings_are_known() -> None:
    example = (subject.project().root / ".env.example").read_text()
    known = set(type(subject.settings()).model_fields)
    assert set(re.findall(r"^(\w+)=", example, re.MULTILINE)) <= known
