"""Files of rows, CSV (RFC 4180) and JSON Lines: read line by line, each line of bounded length."""

import codecs
import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import NoneType
from typing import Any, BinaryIO, Final, Literal, NamedTuple, get_args

from pydantic import BaseModel

from timberframe.bulk.cells import DecimalMark, reader_of
from timberframe.errors import BrokenFile
from timberframe.security import strict_json

Format = Literal["csv", "jsonl"]
Delimiter = Literal["comma", "semicolon", "tab"]
MEDIA_TYPES: Final[Mapping[Format, str]] = {"csv": "text/csv", "jsonl": "application/jsonl"}
# And others that clients send: browsers on Windows take a CSV file for one of Excel's.
TAKEN_MEDIA_TYPES: Final[Mapping[str, Format]] = {
    "text/csv": "csv",
    "application/csv": "csv",
    "application/vnd.ms-excel": "csv",
    "application/jsonl": "jsonl",
    "application/x-ndjson": "jsonl",
}
# A row is read and checked in one go, which blocks the event loop. The longest that a product may
# have is half of this, with every character escaped; the reader takes lines one by one.
MAX_ROW_BYTES = 256 * 1024
MAX_ROW_LINES = 11_000

NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")  # other column names are not repeated in errors
_DELIMITERS: Final[Mapping[Delimiter, str]] = {"comma": ",", "semicolon": ";", "tab": "\t"}
_TOO_LONG = f"a row may have {MAX_ROW_BYTES:,} bytes; is a quote not closed?"
_TOO_MANY_LINES = f"a row may have {MAX_ROW_LINES:,} lines; is a quote not closed?"
_TORN = "a quote is not closed, or is misplaced"
# By the messages of the csv module, which are written for programmers.
_CSV_ERRORS = {
    "end of data": _TORN,
    "expected after": _TORN,
    "new-line character": "there is a CR outside of quotes; lines must end with LF or CRLF",
    "field larger": f"a cell may have {csv.field_size_limit():,} characters",
}
_WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # .xlsx and .ods, and .xls


class Fields(NamedTuple):
    """The fields of a file: those of `schema`, with the Python types of their columns."""

    schema: type[BaseModel]
    types: Mapping[str, type[Any]]

    def is_nullable(self, name: str) -> bool:
        return NoneType in get_args(self.schema.model_fields[name].annotation)


class Dialect(NamedTuple):
    """The delimiter and the decimal mark of a CSV file."""

    delimiter: Delimiter = "comma"
    decimal: DecimalMark = "point"


class Record(NamedTuple):
    """A row as it was sent, and the line where it begins.

    `unread` has the reason for each field that could not be read; `reason` is that of a whole row
    that could not.
    """

    line: int
    row: dict[str, Any]
    reason: str | None = None
    unread: Mapping[str, str] = {}


# None for an empty line, so that a million of them are read with pauses, as rows are.
Records = Iterator[Record | None]


def read_jsonl(file: BinaryIO, fields: Fields, dialect: Dialect) -> Records:
    for number, line in enumerate(_lines(file), 1):
        if line.isspace():
            yield None
            continue
        try:
            row = strict_json.loads(line)
        except json.JSONDecodeError as error:
            place = f" at column {error.colno}" if error.doc else ""
            yield Record(number, {}, f"is not JSON: {error.msg.removesuffix(' at')}{place}")
        except (ValueError, RecursionError):
            yield Record(number, {}, "is JSON that cannot be read")
        else:
            is_object = isinstance(row, dict)
            yield Record(number, row) if is_object else Record(number, {}, "is not a JSON object")


def read_csv(file: BinaryIO, fields: Fields, dialect: Dialect) -> Records:
    """An empty cell is null if the field is nullable, and otherwise counts as not sent."""
    rows = _csv_rows(file, _DELIMITERS[dialect.delimiter])
    names: Sequence[str] = []
    for _, names in rows:
        if names:
            break
        yield None
    _check_columns(names, fields.schema, dialect)
    columns = [
        (name, reader_of(fields.types[name], dialect.decimal), fields.is_nullable(name))
        for name in names
    ]
    for line, cells in rows:
        if not cells:
            yield None
            continue
        if len(cells) != len(columns):
            yield Record(line, {}, f"has {len(cells)} cells, not {len(columns)}")
            continue
        row: dict[str, Any] = {}
        unread: dict[str, str] = {}
        for (name, read, nullable), cell in zip(columns, cells, strict=True):
            if cell:
                try:
                    row[name] = read(cell)
                except ValueError as error:
                    unread[name] = str(error)
            elif nullable:
                row[name] = None
        yield Record(line, row, unread=unread)


def _csv_rows(file: BinaryIO, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield first lines and cells; a cell may span many lines, and an empty line has no cells."""
    first_line, characters, lines = 1, 0, 0

    def bounded_lines() -> Iterator[str]:
        nonlocal characters, lines
        for line in _lines(file):
            characters += len(line)
            lines += 1
            if characters > MAX_ROW_BYTES:
                raise BrokenFile(first_line, _TOO_LONG)
            if lines > MAX_ROW_LINES:
                raise BrokenFile(first_line, _TOO_MANY_LINES)
            yield line

    reader = csv.reader(bounded_lines(), delimiter=delimiter, strict=True)
    try:
        for cells in reader:
            yield first_line, cells
            first_line, characters, lines = reader.line_num + 1, 0, 0
    except csv.Error as error:
        reasons = (reason for words, reason in _CSV_ERRORS.items() if words in str(error))
        raise BrokenFile(first_line, next(reasons, "cannot be read as CSV")) from None


def _lines(file: BinaryIO) -> Iterator[str]:
    """Lines of UTF-8 with or without BOM, ended by LF or CRLF; anything else is a `BrokenFile`."""
    number = 1
    while line := file.readline(MAX_ROW_BYTES + 1):
        if number == 1:
            if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                raise BrokenFile(number, "the file is UTF-16; save it as UTF-8")
            if line.startswith(_WORKBOOKS):
                raise BrokenFile(number, "the file is a workbook; save it as CSV in UTF-8")
            line = line.removeprefix(codecs.BOM_UTF8)
        if len(line) > MAX_ROW_BYTES:
            raise BrokenFile(number, _TOO_LONG)
        if b"\0" in line:
            raise BrokenFile(number, "there is a NUL character; is the file UTF-8?")
        try:
            yield line.decode()
        except UnicodeDecodeError:
            raise BrokenFile(number, "is not UTF-8") from None
        number += 1


def _check_columns(names: Sequence[str], schema: type[BaseModel], dialect: Dialect) -> None:
    known = schema.model_fields
    for other, character in _DELIMITERS.items():
        if len(names) == 1 and character in names[0]:
            reason = f"cells must be separated by a {dialect.delimiter}; is it a {other}?"
            raise BrokenFile(1, f"{reason} Then send delimiter={other}")
    for number, name in enumerate(names, 1):
        if name not in known:
            shown = name if NAME.fullmatch(name) else f"number {number}"
            raise BrokenFile(1, f"column {shown} is unknown; there are {', '.join(known)}")
    if twice := [name for name, times in Counter(names).items() if times > 1]:
        raise BrokenFile(1, f"column {twice[0]} appears twice")
    needed = [name for name, field in known.items() if field.is_required()]
    if missing := [name for name in needed if name not in names]:
        raise BrokenFile(1, f"column {', '.join(missing)} is missing")


READERS: Final[Mapping[Format, Callable[[BinaryIO, Fields, Dialect], Records]]] = {
    "csv": read_csv,
    "jsonl": read_jsonl,
}
