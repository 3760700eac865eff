"""Cells of a CSV file: text there and back unchanged, and nothing that a spreadsheet would run."""

import re
from collections.abc import Callable
from decimal import Decimal
from types import NoneType
from typing import Any, get_args, get_origin

from pydantic.fields import FieldInfo

# What a spreadsheet takes for the beginning of a formula, the wide forms of East Asia too. In front
# of it goes an apostrophe; the cell of an empty text is an apostrophe alone, since an empty cell
# says that there is none.
_FORMULA = "=+\\-@\t\r\n＝＋－＠"  # noqa: RUF001 - the wide forms are meant
_NEEDS_MARK = re.compile(rf"[{_FORMULA}]|'[{_FORMULA}']|'?\Z")
_IS_MARKED = re.compile(rf"'([{_FORMULA}']|\Z)")
_INTEGER = re.compile(r"-?[0-9]{1,18}")
_BOOLEANS = {"true": True, "false": False}


def to_cell(value: str | int | Decimal | list[str] | None) -> str:
    """Of a list, its words with commas between them."""
    if isinstance(value, list):
        value = ",".join(value)
    if isinstance(value, str):
        return f"'{value}" if _NEEDS_MARK.match(value) else value
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def text_of(cell: str) -> str:
    """Without the mark; an apostrophe before anything else is the text's own."""
    return cell[1:] if cell[0] == "'" and _IS_MARKED.match(cell) else cell


def words_of(cell: str) -> list[str]:
    text = text_of(cell)
    return text.split(",") if text else []


def integer_of(cell: str) -> int | str:
    return int(cell) if _INTEGER.fullmatch(cell) else cell


def boolean_of(cell: str) -> bool | str:
    return _BOOLEANS.get(cell.lower(), cell)  # spreadsheets write TRUE


def reader_of(field: FieldInfo) -> Callable[[str], Any]:
    """What a cell that is not empty says; what it cannot say is left for the schema to refuse."""
    if field.annotation is bool:
        return boolean_of
    if get_origin(field.annotation) is list:
        return words_of
    return integer_of if field.annotation is int else text_of


def is_nullable(field: FieldInfo) -> bool:
    return NoneType in get_args(field.annotation)
