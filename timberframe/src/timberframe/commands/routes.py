"""`routes`: the routes of the application, who may call each, and where its handler is."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

import timberframe
from timberframe.errors import CommandError
from timberframe.http.listing import ListedRoute, find_route, list_routes, unused_routes

_PACKAGES = Path(timberframe.__file__).parents[1]
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


def select(app: Any, root: Path, *, text: str | None, access: str | None) -> list[ListedRoute]:
    """The routes with `text` in any column, in any case, that have this access."""
    return [
        row
        for row in list_routes(app)
        if (access is None or row.access == access)
        and (text is None or text.lower() in " ".join((row.method, *_cells(row, root))).lower())
    ]


def answering(app: Any, method: str, path: str) -> list[ListedRoute]:
    """The route that answers; raise `CommandError` that says what there is instead."""
    path = path.partition("?")[0]
    if found := find_route(app, method.upper(), path):
        return [found]
    others = [other for other in _METHODS if find_route(app, other, path)]
    if others:
        raise CommandError(f"{path} has no {method.upper()}: it has {', '.join(others)}")
    near = path.removesuffix("/") if path.endswith("/") else f"{path}/"
    hint = f": {near} is one" if find_route(app, method.upper(), near) else ""
    raise CommandError(f"no route answers {method.upper()} {path}{hint}")


def show(rows: list[ListedRoute], root: Path) -> None:
    """Print a line for each route; those of the frame are dim, with a path in its package."""
    if not rows:
        raise CommandError("no route is like that")
    heads = ("METHOD", "PATH", "ACCESS", "HANDLER")
    lines = [(row.method, *_cells(row, root)) for row in rows]
    widths = [max(map(len, column)) for column in zip(heads, *lines, strict=True)]
    console = Console(highlight=False, soft_wrap=True)
    console.print(_line(heads, widths), style="bold")
    for row, line in zip(rows, lines, strict=True):
        console.print(_line(line, widths), style="dim" if row.is_of_frame else "")


def show_unused(app: Any, root: Path) -> bool:
    """Print the routes that no request reaches; return whether there are any."""
    found = list(unused_routes(app))
    console = Console(highlight=False, soft_wrap=True)
    for row, other in found:
        first = f"{other.path} ({_handler(other, root)}) answers first"
        console.print(Text(f"{row.method} {row.path} ({_handler(row, root)}): {first}"))
    if not found:
        console.print("Every route can be reached")
    return bool(found)


def to_json(rows: Iterable[ListedRoute], root: Path) -> str:
    return json.dumps([_members(row, root) for row in rows], indent=2)


def _members(row: ListedRoute, root: Path) -> dict[str, Any]:
    return {
        "method": row.method,
        "path": row.path,
        "access": row.access,
        "guards": list(row.guards),
        "handler": row.handler,
        "file": _file(row, root),
        "line": row.line,
        "is_of_frame": row.is_of_frame,
    }


def _line(cells: Iterable[str], widths: Iterable[int]) -> Text:
    return Text(
        "  ".join(c.ljust(w) for c, w in zip(cells, widths, strict=True)).rstrip(), no_wrap=True
    )


def _cells(row: ListedRoute, root: Path) -> tuple[str, str, str]:
    return row.path, " + ".join((row.access, *row.guards)), _handler(row, root)


def _handler(row: ListedRoute, root: Path) -> str:
    return f"{_file(row, root)}:{row.line} {row.handler}"


def _file(row: ListedRoute, root: Path) -> str:
    """The handler's file: the application's below the project, others' as they are imported."""
    if row.file is None:
        return ""
    for folder in (_PACKAGES, root):
        if row.file.is_relative_to(folder):
            return str(row.file.relative_to(folder))
    return str(row.file)
