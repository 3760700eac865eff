"""Import and export at a terminal: progress, what came of it, and the rows that were refused."""

import os
import tempfile
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from app import schemas
from app.bulk.exports import export
from app.bulk.files import Format
from app.bulk.imports import Import
from app.core.errors import NotFound
from app.crud.policy import Principal
from app.crud.product import product_crud
from app.crud.user import user_crud
from app.db.session import Database, open_database
from app.models import User
from app.schemas.bulk import ExportParams

console = Console()


async def import_file(
    path: Path, format: Format, params: schemas.ImportParams, *, username: str
) -> schemas.ImportReport:
    """Products from a file, for a user; what is open when Ctrl-C is pressed is not kept."""
    with Bars() as bars, path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size

        def watch(phase: str, done: int, total: int | None) -> None:
            if phase == "check":
                bars.show("Checking", done, size, unit="bytes")
            else:
                bars.show("Trying" if params.dry_run else "Writing", done, total, unit="rows")

        async with open_database() as database:
            user = await _user(database, username)
            importing = Import(
                database,
                product_crud,
                schemas.ProductCreate,
                params,
                viewer=Principal(user.id, user.is_superuser),
                watch=watch,
                owner_id=user.id,
            )
            return await importing.run(file, format)


def show_report(report: schemas.ImportReport) -> None:
    counts = {
        "created": report.created,
        "updated": report.updated,
        "unchanged": report.unchanged,
        "refused": report.refused,
    }
    if report.errors:
        table = Table("Line", "Field", "Reason", title="Refused rows", title_justify="left")
        for error in report.errors:
            # Text, because in a plain string square brackets would be markup.
            table.add_row(str(error.line), Text(error.field or ""), Text(error.reason))
        console.print(table)
        if more := report.errors_total - len(report.errors):
            console.print(f"… and {more:,} more errors")
    console.print(", ".join(f"{count:,} {what}" for what, count in counts.items()))
    if report.mode == "all" and report.refused:
        console.print("Nothing was imported; --mode skip takes the good rows")
    elif report.dry_run:
        console.print("A dry run: nothing was kept")


async def export_file(path: Path, format: Format, *, username: str | None) -> None:
    """What `username` may read, or anybody if None; the file has its name once it is whole."""
    params = ExportParams(format=format)
    async with open_database() as database:
        user = await _user(database, username) if username else None
        viewer = Principal(user.id, user.is_superuser) if user else None
        async with database.reading() as db:
            total = await product_crud.count(db, params=params, viewer=viewer)
        with Bars() as bars:
            pieces = export(
                database,
                product_crud,
                schemas.ProductCreate,
                format,
                params=params,
                viewer=viewer,
                watch=lambda done: bars.show("Exporting", done, max(done, total), unit="rows"),
            )
            await _write_whole(path, pieces)


async def _write_whole(path: Path, pieces: AsyncGenerator[bytes]) -> None:
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as new:
        try:
            async with aclosing(pieces):
                async for piece in pieces:
                    new.write(piece)
            new.flush()
            os.fsync(new.fileno())
            os.replace(new.name, path)
        except BaseException:
            os.unlink(new.name)
            raise


async def _user(database: Database, username: str) -> User:
    async with database.reading() as db:
        user = await user_crud.get_by_username(db, username=username)
    if user is None or not user.is_active:
        raise NotFound(f"Active user {username}")
    return user


class Rate(ProgressColumn):
    """Rows a second, or megabytes, over all of the time."""

    def render(self, task: Task) -> Text:
        seconds = task.finished_time or task.elapsed
        speed = task.completed / seconds if seconds else 0
        is_bytes = task.fields["unit"] == "bytes"
        return Text(f"{speed / 1e6:.1f} MB/s" if is_bytes else f"{speed:,.0f} rows/s")


class Bars(Progress):
    """A bar for each thing that is done, from when it is first shown."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description:9}"), BarColumn(), TaskProgressColumn(), Rate())
        super().__init__(*columns, TimeElapsedColumn(), console=console)
        self.shown: dict[str, TaskID] = {}

    def show(self, what: str, done: int, total: int | None, *, unit: str) -> None:
        if what not in self.shown:
            self.shown[what] = self.add_task(what, unit=unit)
        self.update(self.shown[what], completed=done, total=total)
