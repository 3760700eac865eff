"""Rules of the house that hold for all of the code."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).parents[1]
FRAME = ROOT / "timberframe" / "src" / "timberframe"
MODULES = sorted([*(ROOT / "app").rglob("*.py"), *FRAME.rglob("*.py")])


def test_imports_point_downwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert lint_imports(config_filename="pyproject.toml", is_debug_mode=False) == 0


IMPORT_ALL = """
import gc, importlib, os, pkgutil, sys, threading
gc.disable()  # to look for garbage meanwhile would take a fifth of the time
before = dict(os.environ)
import timberframe
for module in pkgutil.walk_packages(timberframe.__path__, "timberframe."):
    importlib.import_module(module.name)
assert dict(os.environ) == before, "the environment was changed"
assert threading.active_count() == 1, threading.enumerate()
assert not [name for name in sys.modules if name.partition(".")[0] == "app"]
"""


def test_importing_the_frame_runs_nothing(tmp_path: Path) -> None:
    """Outside of any project, and without settings."""
    imported = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (imported.returncode, imported.stdout, imported.stderr) == (0, "", "")


TESTS = sorted([*(ROOT / "tests").rglob("*.py"), *(ROOT / "timberframe/tests").rglob("*.py")])
IMPORT = re.compile(r"^\s*(?:from|import) (\S+)", re.MULTILINE)


def test_no_test_module_imports_another() -> None:
    """What several need is in `factories`, or in the frame's test kit."""
    for path in TESTS:
        imported = IMPORT.findall(path.read_text())
        assert not [name for name in imported if ".test_" in f".{name}"], path


def test_frame_is_tested_without_the_app() -> None:
    for path in [path for path in TESTS if "timberframe" in path.parts]:
        assert "app" not in {name.split(".")[0] for name in IMPORT.findall(path.read_text())}, path


def test_app_needs_only_the_public_names_of_the_frame() -> None:
    readme = (ROOT / "timberframe/README.md").read_text()
    tables = re.findall(r"\*\*`(timberframe\.\w+)`\*\*[^\n]*\n\n(\|(?:.+\n)+)", readme)
    listed = {f"{module}.{name}" for module, table in tables for name in _names(table)}
    for words in re.findall(r"`timberframe\.[\w.]+`(?:(?:,| and) `\w+`)*", readme):
        first, *others = re.findall(r"`([\w.]+)`", words)
        listed |= {first, *(f"{first.rpartition('.')[0]}.{name}" for name in others)}
    used = {
        f"{node.module}.{alias.name}"
        for path in (ROOT / "app").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("timberframe")
        for alias in node.names
    }
    listed |= {name.rpartition(".")[0] for name in listed}  # a module of names that are listed
    whole_modules = ("timberframe.errors.", "timberframe.schemas.fields.")
    assert {name for name in used - listed if not name.startswith(whole_modules)} == set()


def _names(table: str) -> list[str]:
    return re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)


def test_only_the_session_module_commits() -> None:
    committing = {path.name for path in MODULES if ".commit(" in path.read_text()}
    assert committing == {"session.py"}


def test_each_module_says_what_belongs_there() -> None:
    silent = {path for path in MODULES if not ast.get_docstring(ast.parse(path.read_text()))}
    for path in silent:
        is_registry = path.parent.name in ("models", "schemas", "crud")
        assert path.name == "__init__.py", path
        assert is_registry or path.read_text() == "", path


def test_only_the_dependencies_name_get_db() -> None:
    """Beside `DbSession`, a bare `Depends(get_db)` would open a second session."""
    naming = {path.name for path in MODULES if re.search(r"\bget_(db|write)\b", path.read_text())}
    assert naming == {"dependencies.py"}
