"""Files of rows, CSV (RFC 4180) and JSON Lines: read line by line, each line of bounded length."""

import codecs
import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO, Final, Literal, NamedTuple

from pydantic import BaseModel

from app.bulk.cells import is_nullable, reader_of
from app.core import strict_json
from app.core.errors import BrokenFile

Format = Literal["csv", "jsonl"]
MEDIA_TYPES: Final[Mapping[Format, str]] = {"csv": "text/csv", "jsonl": "application/jsonl"}
MAX_ROW_BYTES = 1024 * 1024

NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")  # what else a file calls a column is not repeated
_TOO_LONG = f"a row may have {MAX_ROW_BYTES} bytes; is a quote not closed?"
_TORN = "a quote is not closed, or stands where none may"


class Record(NamedTuple):
    """A row as it was sent, and the line where it begins; `reason` says why it is none."""

    line: int
    row: dict[str, Any]
    reason: str | None = None


def read_jsonl(file: BinaryIO, schema: type[BaseModel]) -> Iterator[Record]:
    for number, line in enumerate(_lines(file), 1):
        if line.isspace():
            continue
        try:
            row = strict_json.loads(line)
        except json.JSONDecodeError as error:
            yield Record(number, {}, f"is not JSON: {error.msg}")
        except (ValueError, RecursionError):
            yield Record(number, {}, "is not JSON that can be read")
        else:
            is_object = isinstance(row, dict)
            yield Record(number, row) if is_object else Record(number, {}, "is no JSON object")


def read_csv(file: BinaryIO, schema: type[BaseModel]) -> Iterator[Record]:
    """An empty cell is null where the schema knows null, and elsewhere as if not sent."""
    rows = _csv_rows(file)
    _, names = next(rows, (1, []))
    _check_columns(names, schema)
    fields = [schema.model_fields[name] for name in names]
    columns = [
        (name, reader_of(field), is_nullable(field))
        for name, field in zip(names, fields, strict=True)
    ]
    for line, cells in rows:
        if len(cells) != len(columns):
            yield Record(line, {}, f"has {len(cells)} cells, not {len(columns)}")
            continue
        row = {}
        for (name, read, nullable), cell in zip(columns, cells, strict=True):
            if cell:
                row[name] = read(cell)
            elif nullable:
                row[name] = None
        yield Record(line, row)


def _csv_rows(file: BinaryIO) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not empty; a cell may go on over many lines."""
    first_line, characters = 1, 0

    def bounded_lines() -> Iterator[str]:
        nonlocal characters
        for line in _lines(file):
            characters += len(line)
            if characters > MAX_ROW_BYTES:
                raise BrokenFile(first_line, _TOO_LONG)
            yield line

    reader = csv.reader(bounded_lines(), strict=True)
    try:
        for cells in reader:
            if cells:
                yield first_line, cells
            first_line, characters = reader.line_num + 1, 0
    except csv.Error as error:
        is_quote = "end of data" in str(error) or "expected after" in str(error)
        raise BrokenFile(first_line, _TORN if is_quote else str(error)) from None


def _lines(file: BinaryIO) -> Iterator[str]:
    """Lines of UTF-8 with or without BOM, ended by LF or CRLF; anything else is a `BrokenFile`."""
    number = 1
    while line := file.readline(MAX_ROW_BYTES + 1):
        if number == 1:
            if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                raise BrokenFile(number, "the file is UTF-16; save it as UTF-8")
            line = line.removeprefix(codecs.BOM_UTF8)
        if len(line) > MAX_ROW_BYTES:
            raise BrokenFile(number, _TOO_LONG)
        if b"\0" in line:
            raise BrokenFile(number, "a NUL character; is the file UTF-8?")
        try:
            yield line.decode()
        except UnicodeDecodeError:
            raise BrokenFile(number, "is not UTF-8") from None
        number += 1


def _check_columns(names: Sequence[str], schema: type[BaseModel]) -> None:
    known = schema.model_fields
    if len(names) == 1 and re.search("[;\t]", names[0]):
        raise BrokenFile(1, "cells must have commas between them")
    for number, name in enumerate(names, 1):
        if name not in known:
            shown = name if NAME.fullmatch(name) else f"number {number}"
            raise BrokenFile(1, f"column {shown} is unknown; there are {', '.join(known)}")
    if twice := [name for name, times in Counter(names).items() if times > 1]:
        raise BrokenFile(1, f"column {twice[0]} stands there twice")
    needed = [name for name, field in known.items() if field.is_required()]
    if missing := [name for name in needed if name not in names]:
        raise BrokenFile(1, f"column {', '.join(missing)} is missing")


READERS: Final[Mapping[Format, Callable[[BinaryIO, type[BaseModel]], Iterator[Record]]]] = {
    "csv": read_csv,
    "jsonl": read_jsonl,
}
