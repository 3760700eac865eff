"""Puts what `timberframe new` starts a project with into the wheel: the application beside it."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

START = (
    *("app", "tests", "alembic", "deploy"),
    *(".env.example", ".gitignore", "AGENTS.md", "pyproject.toml", "README.md", "STYLE.md"),
    *("requirements.lock", "requirements-dev.lock"),
    *("docs/change-a-policy.md", "docs/remove-the-example.md", "docs/rename-a-resource.md"),
    "docs/ways-out.md",
)


class StartHook(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        root = Path(self.root).parent
        for name in START:
            start = root / name
            for file in start.rglob("*") if start.is_dir() else (start,):
                if file.is_file() and "__pycache__" not in file.parts:
                    inside = file.relative_to(root).as_posix()
                    build_data["force_include"][str(file)] = f"timberframe/start/{inside}"
        readme = str(Path(self.root) / "README.md")
        build_data["force_include"][readme] = "timberframe/start/docs/timberframe.md"
