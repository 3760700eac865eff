"""Lays out generated Python as `ruff` does in the project; and the parts that fill templates."""

import ast
import re
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from timberframe.generator.spec import CannotGenerate

_INDENT = " " * 4
# An import of many names is folded before the unused ones go: unfold it if the rest fits on a line.
_UNFOLDED = "lint.isort.split-on-trailing-comma = false"
_PACKAGE = "__init__.py"
_SETTINGS = (".ruff.toml", "ruff.toml", "pyproject.toml")  # as ruff looks for them


def lay_out(files: Mapping[str, str], root: Path) -> dict[str, str]:
    """Drop unused imports, sort the others, and format, by the settings of the project at `root`.

    `files` are sources by path.
    """
    [laid_out] = lay_out_each([files], root)
    return laid_out


def lay_out_each(trees: Sequence[Mapping[str, str]], root: Path) -> list[dict[str, str]]:
    """Lay out several sets of files at once: to start ruff takes longer than what it does."""
    fix = ("check", "--fix", "--exit-zero", "--select=F401,I", f"--config={_UNFOLDED}")
    own = next((name for name in _SETTINGS if (root / name).exists()), None)
    options = [f"--config={root / own}"] if own else []
    with tempfile.TemporaryDirectory() as folder:
        folders = [Path(folder, str(number)) for number in range(len(trees))]
        for files, copies in zip(trees, folders, strict=True):
            _write(files, copies, root)
        # No path comes again, so that a cache would only grow.
        for command in (fix, ("format",)):
            try:
                _ruff(*command, *options, "--no-cache", folder, root=root)
            except CannotGenerate as failed:
                raise CannotGenerate(
                    re.sub(rf"{re.escape(folder)}/\d+/", "", str(failed))
                ) from None
        return [
            {path: (copies / path).read_text() for path in files}
            for files, copies in zip(trees, folders, strict=True)
        ]


def _write(files: Mapping[str, str], folder: Path, root: Path) -> None:
    for path, source in files.items():
        copy = folder / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(source)
        for package in Path(path).parents:  # its modules are sorted as the project's own
            if (root / package / _PACKAGE).exists():
                (folder / package / _PACKAGE).touch()


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
    return _ruff("format", f"--stdin-filename={path}", "-", source=source, root=root)


def _ruff(*command: str, root: Path, source: str | None = None) -> str:
    try:
        from ruff import find_ruff_bin  # only developers have it
    except ImportError:
        raise CannotGenerate("generating needs ruff: install timberframe[dev]") from None
    done = subprocess.run(
        [find_ruff_bin(), *command],
        input=source,
        capture_output=True,
        cwd=root,
        encoding="utf-8",
        check=False,
    )
    if done.returncode:
        raise CannotGenerate(" ".join(done.stderr.split()))
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
