"""Lays out generated Python as `ruff` does in the project; and the parts that fill templates."""

import ast
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from timberframe.generator.spec import CannotGenerate

_INDENT = " " * 4
# An import of many names is folded before the unused ones go: unfold it if the rest fits on a line.
_UNFOLDED = "lint.isort.split-on-trailing-comma = false"


def lay_out(files: Mapping[str, str], root: Path) -> dict[str, str]:
    """Drop unused imports, sort the others, and format, by the settings of the project at `root`.

    `files` are sources by path.
    """
    fix = ("check", "--fix", "--exit-zero", "--select=F401,I", f"--config={_UNFOLDED}")
    return {
        path: format_source(_ruff(*fix, source=source, path=path, root=root), path, root)
        for path, source in files.items()
    }


def with_imports(source: str, imports: str, path: str) -> str:
    """Add imports to the file at `path`; `lay_out` sorts them, and drops those not needed."""
    try:
        module = ast.parse(source)
    except SyntaxError as wrong:
        raise CannotGenerate(f"{path}, line {wrong.lineno}: {wrong.msg}") from None
    lines = source.splitlines(keepends=True)
    at = next(n.lineno for n in module.body if isinstance(n, (ast.Import, ast.ImportFrom))) - 1
    return "".join([*lines[:at], imports, *lines[at:]])


def format_source(source: str, path: str, root: Path) -> str:
    """`source` may be a part of the file at `path`."""
    return _ruff("format", source=source, path=path, root=root)


def _ruff(*command: str, source: str, path: str, root: Path) -> str:
    try:
        from ruff import find_ruff_bin  # only developers have it
    except ImportError:
        raise CannotGenerate("generating needs ruff: install timberframe[dev]") from None
    done = subprocess.run(
        [find_ruff_bin(), *command, "--quiet", f"--stdin-filename={path}", "-"],
        input=source,
        capture_output=True,
        cwd=root,
        encoding="utf-8",
        check=False,
    )
    if done.returncode:
        raise CannotGenerate(f"{path}: {' '.join(done.stderr.split())}")
    return done.stdout


def block(lines: Iterable[str], indent: int = 4) -> str:
    """Join the lines that fill a placeholder of a template, indented to its depth."""
    return "\n".join(" " * indent + line if line else "" for line in lines)


def deeper(lines: Iterable[str]) -> list[str]:
    return [_INDENT + line for line in lines]


def join(*parts: str) -> str:
    """Join arguments; empty ones are left out."""
    return ", ".join(part for part in parts if part)


def tuple_of(items: Iterable[str]) -> str:
    *first, last = items
    return f"({', '.join(first)}, {last})" if first else f"({last},)"


def dict_of(items: Mapping[str, str]) -> str:
    pairs = (f'"{name}": {value}' for name, value in items.items())
    return f"{{{', '.join(pairs)}}}"
