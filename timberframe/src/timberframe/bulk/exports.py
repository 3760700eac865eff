"""Export: the rows of a list as a file, piece by piece, from one snapshot."""

import csv
import io
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic_core import from_json
from sqlalchemy.orm import InstrumentedAttribute

from timberframe.bulk.cells import writer_of
from timberframe.bulk.files import Format
from timberframe.crud.base import CRUDBase
from timberframe.crud.policy import Principal
from timberframe.data.rows_as_json import RowJSON
from timberframe.data.session import Database
from timberframe.schemas.page import Sortable

Rows = Sequence[str]  # as JSON


async def export(
    database: Database,
    crud: CRUDBase[Any, Any, Any],
    schema: type[BaseModel],
    format: Format,
    *,
    params: Sortable,
    viewer: Principal | None,
    watch: Callable[[int], None] = lambda done: None,
) -> AsyncGenerator[bytes]:
    """Yield the file in pieces, with the fields of `schema`, which are those that an import takes.

    `watch` is called with the number of rows so far. The header comes with the first rows, so that
    an immediate failure happens before anything is sent.
    """
    fields = {name: getattr(crud.model, name) for name in schema.model_fields}
    is_csv = format == "csv"
    head = _csv_of([fields]) if is_csv else b""
    write = _csv_writer(fields) if is_csv else _write_jsonl
    columns = [RowJSON(fields)]
    done = 0
    async with database.snapshot() as db:
        async for rows in crud.stream(db, columns=columns, params=params, viewer=viewer):
            yield head + write([row for (row,) in rows])
            head = b""
            done += len(rows)
            watch(done)
    if head:
        yield head


def _csv_writer(fields: Mapping[str, InstrumentedAttribute[Any]]) -> Callable[[Rows], bytes]:
    """Writes what a row is in JSON, so that a type of your own says once how its values look."""
    writers = [writer_of(column.type.python_type) for column in fields.values()]

    def write(rows: Rows) -> bytes:
        values = (from_json(row).values() for row in rows)
        return _csv_of(
            [to_cell(value) for to_cell, value in zip(writers, row, strict=True)] for row in values
        )

    return write


def _csv_of(rows: Iterable[Iterable[str]]) -> bytes:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, strict=True).writerows(rows)
    return buffer.getvalue().encode()


def _write_jsonl(rows: Rows) -> bytes:
    return "".join(f"{row}\n" for row in rows).encode()
