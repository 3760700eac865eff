"""Import and export at a terminal: progress, the result, and the refused rows."""

import json
import os
import tempfile
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel
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
from sqlalchemy.orm import InstrumentedAttribute

from timberframe.accounts import Account, Accounts
from timberframe.bulk.exports import export
from timberframe.bulk.files import Format
from timberframe.bulk.imports import Import
from timberframe.crud.base import CRUDBase
from timberframe.crud.policy import Principal
from timberframe.data.options import DatabaseOptions
from timberframe.data.session import Database, open_database
from timberframe.errors import NotFound
from timberframe.schemas.bulk import ExportParams, ImportParams, ImportReport

console = Console()


@dataclass(frozen=True)
class Bulk:
    """What is imported and exported: rows of one crud with the fields of one schema.

    Rows get the importing user as their `owner`.
    """

    crud: CRUDBase[Any, Any, Any]
    schema: type[BaseModel]
    accounts: Accounts[Any, Any, Any]
    owner: InstrumentedAttribute[Any] | None = None


async def seed_rows(
    bulk: Bulk, rows: Iterable[dict[str, Any]], *, options: DatabaseOptions, username: str
) -> ImportReport:
    """Import rows that are made up, for a user."""
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        file.writelines(f"{json.dumps(row)}\n" for row in rows)
        file.flush()
        params = ImportParams(mode="all")
        return await import_file(
            bulk, Path(file.name), "jsonl", params, options=options, username=username
        )


async def import_file(
    bulk: Bulk,
    path: Path,
    format: Format,
    params: ImportParams,
    *,
    options: DatabaseOptions,
    username: str,
) -> ImportReport:
    """Import rows from a file for a user; Ctrl-C rolls back the open transaction."""
    with ProgressBars() as bars, path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size

        def watch(phase: str, done: int, total: int | None) -> None:
            if phase == "check":
                bars.show("Checking", done, size, unit="bytes")
            else:
                bars.show("Trying" if params.dry_run else "Writing", done, total, unit="rows")

        async with open_database(options) as database:
            user = await _user(bulk, database, username)
            viewer = Principal(user.id, user.is_superuser)
            importing = Import(
                database,
                bulk.crud,
                bulk.schema,
                params,
                viewer=viewer,
                check_rights=partial(bulk.accounts.check_rights, viewer=viewer),
                values={bulk.owner.key: user.id} if bulk.owner else {},
                watch=watch,
            )
            return await importing.run(file, format)


def show_report(report: ImportReport) -> None:
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


async def export_file(
    bulk: Bulk, path: Path, format: Format, *, options: DatabaseOptions, username: str | None
) -> None:
    """Export what `username` may read, or anybody if None; the file appears once it is complete."""
    params = ExportParams(format=format)
    async with open_database(options) as database:
        user = await _user(bulk, database, username) if username else None
        viewer = Principal(user.id, user.is_superuser) if user else None
        async with database.reading() as db:
            total = await bulk.crud.count(db, params=params, viewer=viewer)
        with ProgressBars() as bars:
            pieces = export(
                database,
                bulk.crud,
                bulk.schema,
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


async def _user(bulk: Bulk, database: Database, username: str) -> Account:
    async with database.reading() as db:
        user: Account | None = await bulk.accounts.get_by_username(db, username=username)
    if user is None or not user.is_active:
        raise NotFound(f"Active user {username}")
    return user


class Rate(ProgressColumn):
    """The average speed, in rows or megabytes per second."""

    def render(self, task: Task) -> Text:
        seconds = task.finished_time or task.elapsed
        speed = task.completed / seconds if seconds else 0
        is_bytes = task.fields["unit"] == "bytes"
        return Text(f"{speed / 1e6:.1f} MB/s" if is_bytes else f"{speed:,.0f} rows/s")


class ProgressBars(Progress):
    """A progress bar for each phase, from when it is first shown."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description:9}"), BarColumn(), TaskProgressColumn(), Rate())
        super().__init__(*columns, TimeElapsedColumn(), console=console)
        self.shown: dict[str, TaskID] = {}

    def show(self, what: str, done: int, total: int | None, *, unit: str) -> None:
        if what not in self.shown:
            self.shown[what] = self.add_task(what, unit=unit)
        self.update(self.shown[what], completed=done, total=total)
