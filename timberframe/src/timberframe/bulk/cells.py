"""Cells of a CSV file: text survives the round trip, and no spreadsheet runs it as a formula."""

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Literal

from pydantic_core import to_json

DecimalMark = Literal["point", "comma"]

# Prevents CSV injection. A spreadsheet treats a cell as a formula if it begins with one of these,
# including the full-width forms of East Asia. An apostrophe, the mark, goes in front of them.
_FORMULA = r"['\"]*[=+\-@＝＋－＠]"  # noqa: RUF001 - the wide forms are meant
# A spreadsheet whose separator is not the comma splits our cells at its own, and ignores our
# quotes: what follows one of these may become a cell of its own.
_SEPARATOR = r"[;\t\r\n]"
# At the beginning, tabs and line breaks are marked too, because some spreadsheets drop them. An
# empty text becomes the mark alone, since an empty cell means that there is no value. Text that
# already has a mark in front of something that needs one gets another, so that removing one mark
# always gives the original text.
_BEGINNING = rf"(?={_FORMULA}|'*(?:[\t\r\n]|\Z))"
_INNER = rf"(?={_FORMULA})"
_UNMARKED_BEGINNING = re.compile(_BEGINNING)
_UNMARKED_INNER = re.compile(rf"({_SEPARATOR}){_INNER}")
_MARKED_BEGINNING = re.compile(rf"'{_BEGINNING}")
_MARKED_INNER = re.compile(rf"'(?<={_SEPARATOR}'){_INNER}")  # the mark first: found quickly

# A whole number, which some programs write with a fraction of zeros.
_INTEGERS = {
    "point": re.compile(r"(-?[0-9]{1,18})(?:\.0+)?"),
    "comma": re.compile(r"(-?[0-9]{1,18})(?:,0+)?"),
}
_BOOLEANS = {"true": True, "false": False}


def writer_of(type_: type[Any]) -> Callable[[Any], str]:
    """The function that writes a value of a column, as it is in JSON, into a cell.

    `type_` is the column's Python type. A number needs no mark, although a decimal is text in JSON.
    """
    if issubclass(type_, Decimal):
        return lambda value: "" if value is None else str(value)
    return words_to_cell if issubclass(type_, list) else to_cell


def to_cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return text_to_cell(value)
    written = to_json(value).decode()
    return text_to_cell(written) if isinstance(value, (dict, list)) else written


def text_to_cell(text: str) -> str:
    mark = "'" if _UNMARKED_BEGINNING.match(text) else ""
    if _UNMARKED_INNER.search(text):  # rarely, and `sub` costs three times as much
        text = _UNMARKED_INNER.sub(r"\1'", text)
    return mark + text


def words_to_cell(value: list[str] | None) -> str:
    return "" if value is None else text_to_cell(",".join(value))


def text_of(cell: str) -> str:
    """The text of a cell without the marks; any other apostrophe belongs to the text."""
    text = cell[1:] if _MARKED_BEGINNING.match(cell) else cell
    return _MARKED_INNER.sub("", text)


def words_of(cell: str) -> list[str]:
    text = text_of(cell)
    return text.split(",") if text else []


def boolean_of(cell: str) -> bool:
    """Raise `ValueError` with the reason if the cell cannot be read, as all readers do."""
    try:
        return _BOOLEANS[cell.lower()]  # spreadsheets write TRUE
    except KeyError:
        raise ValueError("must be true or false") from None


def integer_of(cell: str, mark: DecimalMark) -> int:
    integer = _INTEGERS[mark].fullmatch(cell)
    if not integer:
        raise ValueError("must be a whole number")
    return int(integer[1])


def decimal_of(cell: str, mark: DecimalMark) -> str:
    """The number with a decimal point, as the schema reads it."""
    if mark == "comma":
        if "." in cell:  # 1.234 may be 1234 or 1.234
            raise ValueError("must be a number such as 1234,50, without points")
        return cell.replace(",", ".")
    if "," in cell:
        raise ValueError("must be a number such as 1234.50; decimal=comma reads 1234,50")
    return cell


def reader_of(type_: type[Any], mark: DecimalMark) -> Callable[[str], Any]:
    """The function that reads a non-empty cell of a column; the schema checks the result.

    `type_` is the column's Python type.
    """
    if issubclass(type_, bool):
        return boolean_of
    if issubclass(type_, int):
        return lambda cell: integer_of(cell, mark)
    if issubclass(type_, Decimal):
        return lambda cell: decimal_of(cell, mark)
    return words_of if issubclass(type_, list) else text_of
