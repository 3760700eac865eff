"""docs/speed.md: a section from each tool, replaced by that tool's next run."""

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from rich.console import Console
from rich.markdown import Markdown

from benchmarks.systems import ROOT

DOCS = ROOT / "docs"
FILE = DOCS / "speed.md"
SECTIONS = ("requests", "service", "growth", "further-growth", "bulk", "jobs", "events", "streams")
INTRODUCTION = """# Speed

Measured and written by `make bench`, which brings its own databases and servers. Absolute figures
are those of one machine; the ratios are what to compare. Nothing here is written by hand.
"""


def new_console() -> Console:
    return Console(width=None if sys.stdout.isatty() else 140)


def publish(
    console: Console, name: str, text: str, pictures: Mapping[str, str], *, write: bool
) -> None:
    """Show a section; with `write` also put it, and its pictures, into the documentation."""
    console.print(Markdown(re.sub(r"!\[.*?\]\(.*?\)\n*", "", text)))
    if write:
        write_section(name, text)
        for file, svg in pictures.items():
            (DOCS / file).write_text(svg)


def write_section(name: str, text: str) -> None:
    old = FILE.read_text() if FILE.exists() else ""
    written = {each: _section(old, each) for each in SECTIONS} | {name: text.strip()}
    parts = [f"{_begin(each)}\n{body}\n{_end(each)}\n" for each, body in written.items() if body]
    FILE.write_text("\n".join([INTRODUCTION, *parts]))


def _section(document: str, name: str) -> str:
    between = f"{re.escape(_begin(name))}\n(.*?)\n{re.escape(_end(name))}"
    found = re.search(between, document, re.DOTALL)
    return found[1] if found else ""


def _begin(name: str) -> str:
    return f"<!-- {name} -->"


def _end(name: str) -> str:
    return f"<!-- end of {name} -->"


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """In Markdown; the first column is text, the others figures."""
    lines = [headings, [":--", *["--:"] * (len(headings) - 1)], *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def today() -> str:
    return datetime.now(UTC).date().isoformat()


def verdict(is_met: bool | None) -> str:
    return {True: "met", False: "**not met**", None: "not measured"}[is_met]
