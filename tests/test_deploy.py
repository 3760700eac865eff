"""What docs/deploy.md shows is what `deploy/` has, and what `make proxies` runs."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(
    path for path in (ROOT / "deploy").iterdir() if path.is_file() and path.suffix != ".py"
)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_page_shows_the_file_as_it_is(path: Path) -> None:
    page = (ROOT / "docs/deploy.md").read_text()
    shown = re.findall(rf"<!-- deploy/{path.name} -->\n```\w*\n(.*?)```\n", page, re.DOTALL)
    assert shown == [path.read_text()]
