"""The project that uses the frame: where its files are and what it is called."""

import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from timberframe.errors import CommandError

_LIBRARIES = (Path(__file__).parent, Path(tomllib.__file__).parents[1])


class ProjectNotFound(CommandError):
    code = "project_not_found"


@dataclass(frozen=True)
class Project:
    """A folder with a `pyproject.toml` that has a table `[tool.timberframe]`.

    `root` is that folder, and `name` the project's name in commands, tokens and logs.
    """

    root: Path
    name: str

    @classmethod
    def find(cls, start: Path) -> Self:
        """Search `start` and the folders above it; raise `ProjectNotFound` if there is none."""
        for folder in (start, *start.parents):
            file = folder / "pyproject.toml"
            if file.is_file() and (name := _name_in(file)):
                return cls(folder, name)
        raise ProjectNotFound(
            f"there is no pyproject.toml with a table [tool.timberframe] in {start} or above it"
        )

    @classmethod
    def of_module(cls, name: str) -> Self:
        """The project that the imported module `name` belongs to."""
        file = sys.modules[name].__file__
        return cls.find(Path(file).resolve().parent if file else Path.cwd())

    @property
    def pyproject(self) -> Path:
        return self.root / "pyproject.toml"

    @property
    def command(self) -> str:
        """The function that is the project's command, such as `app.cli:main`."""
        content = tomllib.loads(self.pyproject.read_text(encoding="utf-8"))
        target: str | None = content.get("project", {}).get("scripts", {}).get(self.name)
        if not target:
            raise ProjectNotFound(f"{self.pyproject}: [project.scripts] lacks {self.name}")
        return target

    @property
    def migrations(self) -> Path:
        return self.root / "alembic" / "versions"


def _name_in(file: Path) -> str | None:
    """What `[tool.timberframe] name` says, or else `[project] name`; None without the table."""
    content = tomllib.loads(file.read_text(encoding="utf-8"))
    table = content.get("tool", {}).get("timberframe")
    if table is None:
        return None
    name: str | None = table.get("name") or content.get("project", {}).get("name")
    if not name:
        raise ProjectNotFound(f"{file}: [tool.timberframe] needs a name")
    return name


def is_library(file: Path) -> bool:
    """Whether a source file was installed, or belongs to Python or to the frame."""
    is_generated = file.name.startswith("<")  # as of the import system: no file at all
    return (
        is_generated or "site-packages" in file.parts or any(map(file.is_relative_to, _LIBRARIES))
    )
