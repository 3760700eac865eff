"""A project that was just started, in which the generator works."""

import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import structlog

from specimen import cli
from specimen.config import Settings, settings
from timberframe.generator.new_project import new_project
from timberframe.project import Project
from timberframe.testing.databases import ENGINES, new_database, url_setting

Shop = Callable[[str], tuple[str, str]]


@pytest.fixture(scope="session")
def new_shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without the example, and nothing may be written into it."""
    folder = tmp_path_factory.mktemp("new") / "my-shop"  # which is quoted where it is an identifier
    new_project(folder, with_example=False)
    return folder


@pytest.fixture
def empty_database_urls(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[str]]:
    """A database without any tables on each engine; the settings name the last."""
    with ExitStack() as stack:
        urls = [
            stack.enter_context(new_database(engine, request, template=None)) for engine in ENGINES
        ]
        monkeypatch.setattr(settings, "DATABASE_URL", url_setting(urls[-1]))
        yield urls


@pytest.fixture
def checkout(new_shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, which the generator takes for its own."""
    root = tmp_path / new_shop.name
    shutil.copytree(new_shop, root)
    monkeypatch.setattr(Settings, "project", Project.find(root))
    return root


@pytest.fixture
def shop(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Shop:
    """What the command prints, and what it says when it fails."""

    def run(arguments: str) -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", ["my-shop", *shlex.split(arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        failed = str(ended.value.code) if isinstance(ended.value.code, str) else ""
        structlog.reset_defaults()  # a command is a process of its own elsewhere
        output = capsys.readouterr()
        return output.out, output.err + failed

    return run
