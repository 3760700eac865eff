"""Export: the rows of a list as a file, a piece at a time, all from one moment."""

import csv
import io
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from pydantic import BaseModel
from pydantic_core import to_json

from app.bulk.cells import to_cell
from app.bulk.files import Format
from app.crud.base import CRUDBase
from app.crud.policy import Principal
from app.db.session import Database
from app.schemas.page import Sortable


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
    """The fields of `schema`, which are those that an import takes.

    `watch` is told how many there are so far. The first piece has rows, if there are any: what
    fails at once fails before it.
    """
    names = list(schema.model_fields)
    columns = [getattr(crud.model, name) for name in names]
    write = WRITERS[format]
    done = 0
    head = _csv_of([names]) if format == "csv" else b""
    async with database.snapshot() as db:
        async for rows in crud.stream(db, columns=columns, params=params, viewer=viewer):
            yield head + write(names, rows)
            head = b""
            done += len(rows)
            watch(done)
    if head:
        yield head


def _write_csv(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> bytes:
    return _csv_of(map(to_cell, row) for row in rows)


def _csv_of(rows: Iterable[Iterable[str]]) -> bytes:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, strict=True).writerows(rows)
    return buffer.getvalue().encode()


def _write_jsonl(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> bytes:
    return b"".join(to_json(dict(zip(names, row, strict=True))) + b"\n" for row in rows)


WRITERS: Final[Mapping[Format, Callable[[Sequence[str], Sequence[Sequence[Any]]], bytes]]] = {
    "csv": _write_csv,
    "jsonl": _write_jsonl,
}
