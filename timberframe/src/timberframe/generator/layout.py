"""Formats generated Python as the formatter and the import sorter would."""

import ast
import re
from collections.abc import Iterable, Mapping

WIDTH = 100
_INDENT = " " * 4


def lay_out(source: str) -> str:
    """Fold long lines, sort imports, and drop those that nothing uses.

    Each statement of `source` must be on a line of its own, however long.
    """
    used = _names_used(source)
    lines: list[str] = []
    imports: list[str] = []
    for line in source.splitlines():
        if line.startswith("from "):
            imports += _only_used(line, used)
            continue
        lines += _sorted_imports(imports)
        imports = []
        lines += fold(line)
    text = "\n".join(lines).strip("\n") + "\n"
    text = re.sub(r"\n{3,}(?=(from|import|[ \t]))", "\n\n", text)
    return re.sub(r"\n{4,}", "\n\n\n", text)


def fold(line: str) -> list[str]:
    """Break a long statement inside its brackets: all of it on the next line, or one item each."""
    if len(line) <= WIDTH or not (brackets := _brackets(line)):
        return [line]
    start, end = brackets
    indent = line[: len(line) - len(line.lstrip())]
    head, inner, tail = line[: start + 1], line[start + 1 : end], indent + line[end:]
    whole = f"{indent}{_INDENT}{inner}"
    is_collection = not re.search(r"[\w\])]$", line[:start])
    is_only_parameter = _is_function(line) and len(_items(inner)) == 1
    if len(whole) <= WIDTH and not is_collection and not is_only_parameter:
        return [head, whole, tail]
    items = [folded for item in _items(inner) for folded in fold(f"{indent}{_INDENT}{item},")]
    return [head, *items, tail]


def _names_used(source: str) -> set[str]:
    return {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}


def _only_used(line: str, used: set[str]) -> list[str]:
    module, _, names = line.partition(" import ")
    kept = sorted({name for name in names.split(", ") if _bound(name) in used}, key=_import_order)
    return [f"{module} import {', '.join(kept)}"] if kept else []


def _bound(name: str) -> str:
    return name.rpartition(" as ")[2]


def _import_order(name: str) -> tuple[int, str]:
    """Constants, then classes, then the rest."""
    return (0 if name.isupper() and len(name) > 1 else 1 if name[0].isupper() else 2, name)


def _sorted_imports(lines: list[str]) -> list[str]:
    modules: dict[str, list[str]] = {}
    for line in lines:
        module, _, names = line.partition(" import ")
        modules.setdefault(module, []).extend(names.split(", "))
    return [
        folded
        for module, names in sorted(modules.items())
        for folded in fold_import(module, sorted(names, key=_import_order))
    ]


def fold_import(module: str, names: list[str]) -> list[str]:
    line = f"{module} import {', '.join(names)}"
    if len(line) <= WIDTH:
        return [line]
    return [f"{module} import (", *(f"{_INDENT}{name}," for name in names), ")"]


def _brackets(line: str) -> tuple[int, int] | None:
    """Where to break: after the name of a function, else at the last bracket of the line."""
    pairs = _pairs(line)
    if _is_function(line):
        return pairs[0] if pairs else None
    last = [(start, end) for start, end in pairs if re.fullmatch("[:,]?", line[end + 1 :])]
    return last[0] if last else None


def _is_function(line: str) -> bool:
    return re.match(r"\s*(async )?def ", line) is not None


def _pairs(line: str) -> list[tuple[int, int]]:
    """Start and end of each outermost pair of brackets outside of strings."""
    pairs, opened, quote = [], [], ""
    for at, character in enumerate(line):
        if quote:
            quote = "" if character == quote and line[at - 1] != "\\" else quote
        elif character in "\"'":
            quote = character
        elif character in "([{":
            opened.append(at)
        elif character in ")]}":
            start = opened.pop()
            if not opened:
                pairs.append((start, at))
    return pairs


def _items(inner: str) -> list[str]:
    inside = [range(start, end) for start, end in _pairs(inner)]
    quoted = [m.span() for m in re.finditer(r'"(\\.|[^"\\])*"', inner)]
    cuts = [
        at
        for at, character in enumerate(inner)
        if character == ","
        and not any(at in span for span in inside)
        and not any(start < at < end for start, end in quoted)
    ]
    starts = [0, *(cut + 1 for cut in cuts)]
    items = [inner[a:b].strip() for a, b in zip(starts, [*cuts, len(inner)], strict=True)]
    return [item for item in items if item]


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
