"""`python -m benchmarks.growth`: what reads cost on few and on many rows, database included."""

import secrets
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import httpx2
import typer
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.database import OPENERS
from benchmarks.servers import serve
from benchmarks.systems import SYSTEMS

WORK = {
    "first page, total": "?limit=100",
    "page at nine tenths, by cursor": "?limit=100&cursor={cursor}",
    "dearest first": "?limit=100&sort=-price",
    "a range of prices": "?limit=100&price__gte=500&price__lt=501&sort=price",
    "q=chair": "?limit=100&q=chair",
    "q=folding oak chair": "?limit=100&q=folding+oak+chair",
    "q=oak steel (common words that never meet)": "?limit=100&q=oak+steel",
    "q=DEMO-77 (a beginning)": "?limit=100&q=DEMO-77",
    "q=chiar (a typo)": "?limit=100&q=chiar",
    "q=catalogue (in every row)": "?limit=100&q=catalogue",
    "q=nothingness (in no row)": "?limit=100&q=nothingness",
}
Medians = dict[str, float]


def main(
    rows: Annotated[str, typer.Option(help="Sizes of the table.")] = "10000,1000000",
    repeats: Annotated[int, typer.Option(help="Requests of each, one by one.", min=3)] = 41,
) -> None:
    """Measure the median latency of lists and searches, one request at a time."""
    sizes = [int(size) for size in rows.split(",")]
    console = Console(width=None if sys.stdout.isatty() else 110)
    table = Table(title="Median ms of a request", box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("")
    for size in sizes:
        table.add_column(f"{size:,}", justify="right")
    table.add_column("times", justify="right")
    with console.status("Filling …") as status:
        for system in SYSTEMS:
            if not system.signs_in:
                continue  # the guide's way
            measured = []
            for size in sizes:
                status.update(f"{system.name}, {size:,} rows …")
                with serving(system.name, size) as client:
                    measured.append(medians(client, size, repeats))
            table.add_section()
            for name in WORK:
                figures = [of_size[name] for of_size in measured]
                cells = [f"{figure:.2f}" for figure in figures]
                table.add_row(f"{system.engine}: {name}", *cells, f"{figures[-1] / figures[0]:.1f}")
    console.print(table)


@contextmanager
def serving(name: str, size: int) -> Iterator[httpx2.Client]:
    [system] = [each for each in SYSTEMS if each.name == name]
    secret_key = secrets.token_urlsafe(48)
    with TemporaryDirectory(prefix="myapi-growth-") as temporary:
        folder = Path(temporary)
        with (
            OPENERS[system.engine](folder, size, secret_key) as database,
            serve(system, database, secret_key, folder) as server,
            httpx2.Client(base_url=f"{server.url}/api/v1/products/", timeout=60) as client,
        ):
            yield client


def medians(client: httpx2.Client, size: int, repeats: int) -> Medians:
    cursor = cursor_after(client, size * 9 // 10)
    return {
        name: median_ms(client, query.format(cursor=cursor), repeats)
        for name, query in WORK.items()
    }


def cursor_after(client: httpx2.Client, number: int) -> str:
    """After the row of that number: found by a filter, and as good without it."""
    query = f"?limit=1&sku__in=DEMO-{number},DEMO-{number + 1}"
    cursor: str = client.get(query).raise_for_status().json()["next_cursor"]
    return cursor


def median_ms(client: httpx2.Client, query: str, repeats: int) -> float:
    for _ in range(3):
        client.get(query).raise_for_status()
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        client.get(query)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken) * 1e3


if __name__ == "__main__":
    typer.run(main)
