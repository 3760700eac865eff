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
            found[system.engine] = []
            for size in sizes:
                status.update(f"{system.name}, {size:,} rows …")
                database = filled[size, system]
                with serve(system, database, secret_key, Path(folder)) as server:
                    found[system.engine].append(medians(server, size, repeats))
    pictures = {"growth.svg": picture(sizes, found)}
    document.publish(console, "growth", report(sizes, found), pictures, write=write)


def report(sizes: Sequence[int], found: Mapping[str, Sequence[Medians]]) -> str:
    headings = ("", *(f"{size:,} products" for size in sizes), "times")
    tables = [
        f"### {engine}\n\n{document.table(headings, map(_row, NAMES, zip_by_name(medians)))}"
        for engine, medians in found.items()
    ]
    return "\n".join(
        (
            "## Growth\n",
            "![Latency of a request on few and on many products](growth.svg)\n",
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


def medians(server: Server, size: int, repeats: int) -> Medians:
    with httpx2.Client(base_url=f"{server.url}/api/v1/products/", timeout=60) as client:
        cursor = cursor_after(client, size * 9 // 10)
        reads = {
            name: median_ms(partial(client.get, query.format(cursor=cursor)), repeats)
            for name, query in WORK.items()
        }
        client.headers["Authorization"] = f"Bearer {server.token}"
        files = map(new_products, count())
        # Fewer, and last, so that reads find the table as it was filled.
        return reads | {IMPORT: median_ms(lambda: send(client, next(files)), repeats // 4)}


def new_products(number: int) -> str:
    rows = (f"N{number}-{row},Oak chair,19.99\n" for row in range(IMPORTED))
    return f"sku,name,price\n{''.join(rows)}"


def send(client: httpx2.Client, file: str) -> httpx2.Response:
    return client.post("import", content=file, headers={"Content-Type": "text/csv"})


def cursor_after(client: httpx2.Client, number: int) -> str:
    """After the row of that number: found by a filter, and as good without it."""
    query = f"?limit=1&sku__in=DEMO-{number},DEMO-{number + 1}"
    cursor: str = client.get(query).raise_for_status().json()["next_cursor"]
    return cursor


def median_ms(request: Callable[[], httpx2.Response], repeats: int) -> float:
    for _ in range(3):
        request().raise_for_status()
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        answer = request()
        taken.append(time.perf_counter() - started)
        answer.raise_for_status()
    return statistics.median(taken) * 1e3


if __name__ == "__main__":
    typer.run(main)
