"""The frame's README lists what an application may import: all of it, and nothing else."""

import re
from importlib import import_module
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text()
TABLES = re.findall(
    r"\*\*`(timberframe\.\w+)`\*\*[^\n]*\n\n(\| name \| is \|\n(?:\|[^\n]*\n)+)", README
)


def test_every_module_of_names_has_a_table() -> None:
    modules = {module for module, _ in TABLES}
    assert modules == {
        f"timberframe.{m}"
        for m in (
            "models",
            "schemas",
            "crud",
            "results",
            "routes",
            "jobs",
            "mail",
            "webhooks",
            "testing",
        )
    }


@pytest.mark.parametrize(("module", "table"), TABLES, ids=[module for module, _ in TABLES])
def test_table_lists_the_names_of_the_module(module: str, table: str) -> None:
    listed = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert sorted(listed) == sorted(import_module(module).__all__)


def test_starting_names_are_there() -> None:
    paragraph = README.partition("**To start an application**")[2].partition("\n\n")[0]
    names = re.findall(r"`(timberframe\.\w+)\.(\w+)`", paragraph)
    assert len(names) >= 5
    for module, name in names:
        assert hasattr(import_module(module), name), f"{module}.{name}"
