"""`python -m benchmarks.growth`: what reads cost on few and on many rows, database included."""

import os
import secrets
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import httpx2
import typer

from benchmarks import document
from benchmarks.chart import Bar, Group, Panel, bar_chart
from benchmarks.database import OPENERS, Database
from benchmarks.machine import describe
from benchmarks.servers import Server, serve
from benchmarks.systems import SYSTEMS, System

WORK = {
    "first page, total": "?limit=100",
    "page at nine tenths, by cursor": "?limit=100&cursor={cursor}",
    "dearest first": "?limit=100&sort=-price",
    "a range of prices": "?limit=100&price__gte=500&price__lt=501&sort=price",
    "a category and all below it": "?limit=100&category=furniture",
    "two tags": "?limit=100&tag=oak&tag=sale",
    "q=chair": "?limit=100&q=chair",
    "q=folding oak chair": "?limit=100&q=folding+oak+chair",
    "q=oak steel (they never meet)": "?limit=100&q=oak+steel",
    "q=DEMO-77 (a beginning)": "?limit=100&q=DEMO-77",
    "q=chiar (a typo)": "?limit=100&q=chiar",
    "q=catalogue (in every row)": "?limit=100&q=catalogue",
    "q=nothingness (in no row)": "?limit=100&q=nothingness",
}
IMPORT = "import of 1,000 products"
IMPORTED = 1_000
WARM_UPS = 3
USUAL_ROWS = 1_000_000  # what takes longer has a section of its own
NAMES = (*WORK, IMPORT)
Medians = dict[str, float]


def main(
    rows: Annotated[str, typer.Option(help="Sizes of the table.")] = "10000,1000000",
    repeats: Annotated[int, typer.Option(help="Requests of each, one by one.", min=4)] = 41,
    write: Annotated[bool, typer.Option("--write", help="Write it into docs/speed.md.")] = False,
) -> None:
    """Measure the median latency of lists, searches and imports, one request at a time."""
    sizes = [int(size) for size in rows.split(",")]
    console = document.new_console()
    secret_key = secrets.token_urlsafe(48)
    systems = [system for system in SYSTEMS if system.is_ours]
    found: dict[str, list[Medians]] = {}
    with (
        TemporaryDirectory(prefix="myapi-growth-") as folder,
        ExitStack() as databases,
        ThreadPoolExecutor(os.cpu_count()) as fillers,
        console.status("Filling …") as status,
    ):
        # The largest first, and both engines at once: it is what takes the time.
        order = [(size, system) for size in sorted(sizes, reverse=True) for system in systems]

        def fill(which: tuple[int, System]) -> Database:
            size, system = which
            own = Path(folder) / f"{system.engine}-{size}"
            own.mkdir()
            return databases.enter_context(OPENERS[system.engine](own, size, secret_key))

        filled = dict(zip(order, fillers.map(fill, order), strict=True))
        for system in systems:
            status.update(f"{system.name} …")
            with ExitStack() as servers:
                running = [
                    servers.enter_context(
                        serve(system, filled[size, system], secret_key, Path(folder))
                    )
                    for size in sizes
                ]
                found[system.engine] = medians(running, sizes, repeats)
    section = "growth" if max(sizes) <= USUAL_ROWS else "further-growth"
    pictures = {f"{section}.svg": picture(sizes, found)}
    document.publish(console, section, report(section, sizes, found), pictures, write=write)


def report(section: str, sizes: Sequence[int], found: Mapping[str, Sequence[Medians]]) -> str:
    headings = ("", *(f"{size:,} products" for size in sizes), "times")
    tables = [
        f"### {engine}\n\n{document.table(headings, map(_row, NAMES, zip_by_name(medians)))}"
        for engine, medians in found.items()
    ]
    return "\n".join(
        (
            f"## Growth to {max(sizes):,} products\n",
            f"![Latency of a request on few and on many products]({section}.svg)\n",
            "Median milliseconds of a request, one at a time, with the database's work in it;",
            f"{document.today()}, {describe()}.\n",
            *tables,
        )
    )


def zip_by_name(medians: Sequence[Medians]) -> Iterator[list[float]]:
    return ([of_size[name] for of_size in medians] for name in NAMES)


def _row(name: str, figures: Sequence[float]) -> list[str]:
    return [name, *(f"{figure:.2f}" for figure in figures), f"{figures[-1] / figures[0]:.1f}"]


def picture(sizes: Sequence[int], found: Mapping[str, Sequence[Medians]]) -> str:
    kinds = ("first", "second", "third")
    panels = [
        Panel(
            f"{engine}: ms of a request",
            [
                Group(
                    name,
                    [
                        Bar(figure, f"{figure:.1f}", kind)
                        for figure, kind in zip(figures, kinds, strict=False)
                    ],
                )
                for name, figures in zip(NAMES, zip_by_name(medians), strict=True)
            ],
        )
        for engine, medians in found.items()
    ]
    note = f"Products, from the first bar of each: {', '.join(f'{size:,}' for size in sizes)}."
    return bar_chart("Latency of a request on few and on many products", panels, note)


def medians(servers: Sequence[Server], sizes: Sequence[int], repeats: int) -> list[Medians]:
    """Of each server; they take turns, so that a slow moment of the machine is one for all."""
    found = {}
    with httpx2.Client(timeout=60) as client:
        lists = [f"{server.url}/api/v1/products/" for server in servers]
        cursors = [
            cursor_after(client, url, size * 9 // 10)
            for url, size in zip(lists, sizes, strict=True)
        ]
        for name, query in WORK.items():
            urls = (url + query.format(cursor=c) for url, c in zip(lists, cursors, strict=True))
            found[name] = medians_ms([partial(client.get, url) for url in urls], repeats)
        # Fewer, and last, so that reads find the table as it was filled.
        found[IMPORT] = medians_ms([importer(client, each) for each in servers], repeats // 4)
    return [{name: its[place] for name, its in found.items()} for place in range(len(servers))]


def new_products(number: int) -> str:
    rows = (f"N{number}-{row},Oak chair,19.99\n" for row in range(IMPORTED))
    return f"sku,name,price\n{''.join(rows)}"


def importer(client: httpx2.Client, server: Server) -> Callable[[], httpx2.Response]:
    url = f"{server.url}/api/v1/products/import"
    headers = {"Content-Type": "text/csv", "Authorization": f"Bearer {server.token}"}
    files = map(new_products, count())
    return lambda: client.post(url, content=next(files), headers=headers)


def cursor_after(client: httpx2.Client, url: str, number: int) -> str:
    """After the row of that number: found by a filter, and as good without it."""
    query = f"?limit=1&sku__in=DEMO-{number},DEMO-{number + 1}"
    cursor: str = client.get(url + query).raise_for_status().json()["next_cursor"]
    return cursor


def medians_ms(requests: Sequence[Callable[[], httpx2.Response]], repeats: int) -> list[float]:
    taken: list[list[float]] = [[] for _ in requests]
    for repeat in range(WARM_UPS + repeats):
        for request, its in zip(requests, taken, strict=True):
            started = time.perf_counter()
            answer = request()
            if repeat >= WARM_UPS:
                its.append(time.perf_counter() - started)
            answer.raise_for_status()
    return [statistics.median(its) * 1e3 for its in taken]


if __name__ == "__main__":
    typer.run(main)
