"""Migrations of a test's own."""

import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import Script

from specimen.config import settings
from timberframe.migrations import alembic_config

Migrate = Callable[[str], None]


@pytest.fixture
def config(database_url: str, tmp_path: Path) -> Config:
    """Of a copy of the migrations, for more of them."""
    shutil.copytree(settings.project.root / "alembic", tmp_path / "alembic")
    config = alembic_config(settings.project)
    config.set_main_option("script_location", str(tmp_path / "alembic"))
    return config


@pytest.fixture
def migrate(config: Config) -> Migrate:
    """Runs one more migration, which consists of the lines that it is given."""
    numbers = count()

    def run(lines: str) -> None:
        script = command.revision(config, f"migration {next(numbers)}")
        assert isinstance(script, Script)
        path = Path(script.path)
        body = "\n".join(f"    {line}" for line in lines.splitlines())
        path.write_text(path.read_text().replace("    pass", body, 1))
        command.upgrade(config, "head")

    return run
