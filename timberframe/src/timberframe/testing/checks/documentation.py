"""What the README and the example settings promise."""

import importlib.util
import re
import shlex
import sys
from pathlib import Path

import pytest

from timberframe.testing import subject
from timberframe.testing.process import call_command


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


def test_page_for_assistants_names_what_exists() -> None:
    """Paths, modules, targets of make and commands in AGENTS.md."""
    root, name = subject.project().root, subject.project().name
    page, wrong = root / "AGENTS.md", []
    if not page.exists():
        pytest.skip("the project has no AGENTS.md")
    for span in re.findall(r"`([^`\n]+)`", page.read_text()):
        first, *arguments = shlex.split(span)
        if first == "make":
            is_there = f"\n{arguments[0]}:" in (root / "Makefile").read_text()
        elif first == f".venv/bin/{name}":
            is_there = call_command(*arguments, "--help").returncode == 0
        elif first.startswith(".venv/bin/"):
            is_there = (Path(sys.executable).parent / first.rpartition("/")[2]).exists()
            is_there &= all((root / path).exists() for path in arguments)
        elif re.search(r"[/.]", first) and not first.startswith("timberframe"):
            is_there = (root / first).exists()
        elif first.startswith("timberframe"):
            is_there = importlib.util.find_spec(first) is not None
        else:
            is_there = any(span in path.read_text() for path in (root / "app").rglob("*.py"))
        if not is_there:
            wrong.append(span)
    assert wrong == []
