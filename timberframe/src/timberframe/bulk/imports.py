"""Import: a whole file is read and checked before the first of its rows is written."""

import asyncio
import sys
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, BinaryIO, Generic, TypeVar

import structlog
from pydantic import BaseModel, TypeAdapter, ValidationError

from timberframe.bulk.files import NAME, READERS, Dialect, Fields, Format, Record
from timberframe.bulk.stage import Stage
from timberframe.bulk.upsert import Batch, Refused, Upsert, Upserted
from timberframe.bulk.validation_errors import message_in_file
from timberframe.crud.base import CRUDBase
from timberframe.crud.policy import Principal
from timberframe.data.query import Fetch
from timberframe.data.retries import retrying
from timberframe.data.session import Database
from timberframe.data.unit_of_work import UnitOfWork
from timberframe.errors import AppError, NotAuthenticated, NotPermitted
from timberframe.schemas.bulk import ImportParams, ImportReport

BATCH_ROWS = 1000
BATCH_BYTES = 4 * 1024 * 1024
_SLICE_SECONDS = 0.002
_SWITCH_SECONDS = _SLICE_SECONDS / 4
_USUAL_SWITCH_SECONDS = sys.getswitchinterval()
_checks = 0  # running in this process
_PAUSE = 0.25  # seconds for each second of writing

log = structlog.get_logger()

SchemaT = TypeVar("SchemaT", bound=BaseModel)
# Called with the phase, how much is done, and of how much: first "check", in bytes of the file,
# then "write", in rows.
Watch = Callable[[str, int, int | None], None]


class Import(Generic[SchemaT]):
    """Imports rows of one `schema` into the table of one crud.

    `values` are columns that the file does not set.

    Each file is one `run`, with its own report. Before each commit `check_rights` raises
    `NotAuthenticated` or `NotPermitted` if the `viewer` has lost their rights; the error then says
    what had been written before.
    """

    def __init__(
        self,
        database: Database,
        crud: CRUDBase[Any, SchemaT, Any],
        schema: type[SchemaT],
        params: ImportParams,
        *,
        viewer: Principal,
        check_rights: Callable[[Fetch], Awaitable[None]],
        values: Mapping[str, Any],
        watch: Watch = lambda phase, done, total: None,
    ) -> None:
        self.database = database
        self.viewer = viewer
        self.check_rights = check_rights
        self.dialect = Dialect(params.delimiter, params.decimal)
        self.upsert = Upsert(crud, schema, viewer, database.engine.dialect)
        self.key = crud.natural_key
        types = {name: c.type.python_type for name, c in self.upsert.columns.items()}
        self.fields = Fields(schema, types)
        self.validate = TypeAdapter(schema).validate_python
        self.report = ImportReport(mode=params.mode, dry_run=params.dry_run)
        self.values = values
        self.watch = watch

    async def run(self, file: BinaryIO, format: Format) -> ImportReport:
        """Import a file and return the report; raise `BrokenFile` if it cannot be read in full."""
        with Stage() as stage:
            await self._check(file, format, stage)
            if not (self.report.refused and self.report.mode == "all"):
                await self._write(stage)
        self.report.errors.sort(key=lambda error: error.line)
        return self.report

    async def _check(self, file: BinaryIO, format: Format, stage: Stage) -> None:
        with _switching_threads_often():
            await self._check_rows(file, format, stage)

    async def _check_rows(self, file: BinaryIO, format: Format, stage: Stage) -> None:
        # By the fields that rows came with: an update leaves other fields as they are.
        waiting: dict[frozenset[str], list[bytes]] = defaultdict(list)
        waiting_bytes = 0
        slice_end = time.perf_counter() + _SLICE_SECONDS
        for record in READERS[format](file, self.fields, self.dialect):
            if record and (row := self._checked(record, stage)):
                sent = frozenset(row.model_fields_set)
                rows = waiting[sent]
                rows.append(self.upsert.encode(row))
                waiting_bytes += len(rows[-1])
                if len(rows) == BATCH_ROWS or waiting_bytes > BATCH_BYTES:
                    _flush(waiting, stage)
                    waiting_bytes = 0
            if time.perf_counter() > slice_end:
                self.watch("check", file.tell(), None)
                await asyncio.sleep(0)  # serve other requests between two slices
                slice_end = time.perf_counter() + _SLICE_SECONDS
        _flush(waiting, stage)
        self.watch("check", file.tell(), None)

    def _checked(self, record: Record, stage: Stage) -> SchemaT | None:
        if record.reason:
            self.report.refuse(record.line, [(None, record.reason)])
            return None
        try:
            row = self.validate(record.row)
        except ValidationError as invalid:
            if self.report.is_full and not record.unread:
                self.report.refuse(record.line, count=invalid.error_count())
            else:
                self.report.refuse(record.line, _reasons(record, invalid))
            return None
        if record.unread:  # in optional fields, since validation did not miss them
            self.report.refuse(record.line, list(record.unread.items()))
            return None
        key = getattr(row, self.key)
        if not stage.add_key(key, record.line):
            first = stage.line_of(key)
            self.report.refuse(record.line, [(self.key, f"is already on line {first}")])
            return None
        return row

    async def _write(self, stage: Stage) -> None:
        if self.report.mode == "all" and not self.report.dry_run:
            await retrying(lambda: self._write_at_once(stage))
        else:
            await self._write_batch_by_batch(stage)

    async def _write_at_once(self, stage: Stage) -> None:
        done: list[Upserted] = []
        refused: list[Refused] = []
        batches = stage.batches()
        async with self.database.transaction() as db:
            for batch in batches:
                done.append(await self._upsert(db, batch))
                if refused := list(done[-1].refused):
                    await db.rollback()
                    break
                self.watch("write", sum(each.rows for each in done), stage.rows)
        if not refused:
            self._count(done)
            return
        async with self.database.reading() as db:
            for batch in batches:
                refused += await self.upsert.refused(db, batch, self.values)
        self._refuse(stage, refused)

    async def _write_batch_by_batch(self, stage: Stage) -> None:
        """Commit each batch by itself, so that no lock is held for long.

        No two batches share a key: a dry run finds here whatever one transaction would.
        """
        done: list[Upserted] = []
        for batch in stage.batches():
            started = time.perf_counter()
            pending = sum(each.created for each in done) if self.report.dry_run else 0
            try:
                done.append(await retrying(partial(self._write_batch, batch, pending)))
            except (NotAuthenticated, NotPermitted) as lost:
                self._stop(lost, done)
                raise
            self._refuse(stage, done[-1].refused)
            self.watch("write", sum(each.rows for each in done), stage.rows)
            # SQLite has one writer, and others poll for its lock: give them a gap.
            await asyncio.sleep((time.perf_counter() - started) * _PAUSE)
        if not (self.report.mode == "all" and self.report.refused):
            self._count(done)

    async def _write_batch(self, batch: Batch, pending: int) -> Upserted:
        async with self.database.transaction() as db:
            done = await self._upsert(db, batch, pending=pending)
            if self.report.dry_run:
                await db.rollback()
        return done

    async def _upsert(self, db: UnitOfWork, batch: Batch, *, pending: int = 0) -> Upserted:
        """Write a batch, and check the rights of the viewer last, just before the commit.

        Their account is not locked: an administrator who takes the rights away must not wait for
        the end of an import.
        """
        done = await self.upsert.run(db, batch, self.values, pending=pending)
        await self.check_rights(db.fetch)
        return done

    def _stop(self, lost: AppError, done: Sequence[Upserted]) -> None:
        """Add to the error what had been written before the viewer lost their rights."""
        if self.report.dry_run:
            return
        self._count(done)
        kept = self.report.created + self.report.updated
        log.warning("import_stopped", user_id=self.viewer.id, error=lost.code, kept=kept)
        lost.detail += f"; the import was stopped after {kept:,} rows had been written"
        lost.members = self.report.model_dump()

    def _count(self, done: Sequence[Upserted]) -> None:
        for each in done:
            self.report.created += each.created
            self.report.updated += each.updated
            self.report.unchanged += each.unchanged

    def _refuse(self, stage: Stage, rows: Sequence[Refused]) -> None:
        for row in rows:
            self.report.refuse(stage.line_of(row.key), [(row.field, row.reason)])


@contextmanager
def _switching_threads_often() -> Iterator[None]:
    """Let threads that wait for the GIL have it before a slice is over.

    By default they wait for 5 ms, and each pause of the event loop restarts that wait: the server's
    thread that hands requests over might wait for as long as a file is checked.
    """
    global _checks
    if not _checks:
        sys.setswitchinterval(_SWITCH_SECONDS)
    _checks += 1
    try:
        yield
    finally:
        _checks -= 1
        if not _checks:
            sys.setswitchinterval(_USUAL_SWITCH_SECONDS)


def _flush(waiting: dict[frozenset[str], list[bytes]], stage: Stage) -> None:
    for sent, rows in waiting.items():
        stage.add(Batch.of(rows, sent))
    waiting.clear()


def _reasons(record: Record, invalid: ValidationError) -> list[tuple[str | None, str]]:
    """Fields and reasons; to the schema an unreadable field is missing, which is not reported."""
    reasons: list[tuple[str | None, str]] = list(record.unread.items())
    for error in invalid.errors(include_url=False, include_input=False):
        name = str(error["loc"][0])
        if name not in record.unread:
            reasons.append((name if NAME.fullmatch(name) else "?", message_in_file(error)))
    return reasons
