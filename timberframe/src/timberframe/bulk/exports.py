"""Export: the rows of a list as a file, piece by piece, from one snapshot."""

import csv
import io
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from typing import Any

from pydantic import BaseModel

from timberframe.bulk.cells import to_cell
from timberframe.bulk.files import Format
from timberframe.crud.base import CRUDBase
from timberframe.crud.policy import Principal
from timberframe.data.rows_as_json import RowJSON
from timberframe.data.session import Database
from timberframe.schemas.page import Sortable


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
    columns = list(fields.values()) if is_csv else [RowJSON(fields)]
    head = _csv_of([fields]) if is_csv else b""
    write = _write_csv if is_csv else _write_jsonl
    done = 0
    async with database.snapshot() as db:
        async for rows in crud.stream(db, columns=columns, params=params, viewer=viewer):
            yield head + write(rows)
            head = b""
            done += len(rows)
            watch(done)
    if head:
        yield head


def _write_csv(rows: Sequence[Sequence[Any]]) -> bytes:
    return _csv_of(map(to_cell, row) for row in rows)


def _csv_of(rows: Iterable[Iterable[str]]) -> bytes:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, strict=True).writerows(rows)
    return buffer.getvalue().encode()


def _write_jsonl(rows: Sequence[Sequence[str]]) -> bytes:
    return "".join(f"{row}\n" for (row,) in rows).encode()
