"""Cells: every text comes back as it was, and none begins as a formula does."""

import csv
import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from timberframe.bulk.cells import boolean_of, decimal_of, integer_of, text_of, to_cell

FORMULAS = ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", "＋1", "－1", "＠1")
MARKS = ("'", "''", "'''", "'=", "''=", "'x", "''x", "'tis", "")
PLAIN = ("Chair", " =1", "a=1", "1-2", "é", "\u2028", "'tis the season", "a\r\nb", '"', ";", ",")


@pytest.mark.parametrize("text", FORMULAS)
def test_formula_is_made_inert(text: str) -> None:
    assert to_cell(text)[:2] == f"'{text[0]}"
    assert text_of(to_cell(text)) == text


@pytest.mark.parametrize("text", PLAIN)
def test_other_text_is_left_alone(text: str) -> None:
    assert to_cell(text) == text
    assert text_of(text) == text


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("x;=1+1;z", "x;'=1+1;z"),
        ("x\t-1", "x\t'-1"),
        ("x\r\n@a\n+1", "x\r\n'@a\n'+1"),
        ("x;'=1", "x;''=1"),
        ('x;"=1"', 'x;\'"=1"'),
        ("=1;=2", "'=1;'=2"),
        (";;=1", ";;'=1"),
        ("\t=1", "'\t'=1"),
        ("a; =1, b;c - d;'tis\r\n", "a; =1, b;c - d;'tis\r\n"),
    ],
)
def test_formula_behind_a_separator_of_another_locale_is_made_inert(text: str, cell: str) -> None:
    assert to_cell(text) == cell
    assert text_of(cell) == text


@given(
    st.text()
    | st.text(alphabet="'\"=+-@;\t\r\n＝a", max_size=8)
    | st.lists(st.sampled_from(FORMULAS + MARKS + PLAIN), max_size=5).map(";".join)
    | st.sampled_from(MARKS)
)
def test_every_text_comes_back(text: str) -> None:
    cell = to_cell(text)
    assert cell
    assert text_of(cell) == text
    assert cell[0] not in "=+-@\t\r\n＝＋－＠"
    for part in re.split("[;\t\r\n]", cell):
        assert not re.match('"*[=+\\-@＝＋－＠]', part)
    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerow([cell, "end"])
    assert next(csv.reader([buffer.getvalue()], strict=True)) == [cell, "end"]


def test_formula_from_a_spreadsheet_that_took_the_mark_away_is_the_same_text() -> None:
    assert text_of("=1+1") == "=1+1"


def test_numbers_are_read_with_the_mark_of_their_file() -> None:
    for cell in ("7", "007", "7.0", "7.000"):
        assert integer_of(cell, "point") == 7
    assert integer_of("-7,0", "comma") == -7
    assert decimal_of("1234.50", "point") == decimal_of("1234,50", "comma") == "1234.50"


@pytest.mark.parametrize("cell", ["7.5", "7,0", "٧", "7 ", "1e3", "9" * 5000, "7.", "+7"])
def test_what_is_no_whole_number_is_refused(cell: str) -> None:
    with pytest.raises(ValueError, match=r"^must be a whole number$"):
        integer_of(cell, "point")


def test_number_with_the_other_mark_is_refused_and_not_guessed_at() -> None:
    with pytest.raises(ValueError, match="without points"):
        decimal_of("1.234", "comma")
    with pytest.raises(ValueError, match="decimal=comma"):
        decimal_of("1,234", "point")


def test_truth_is_read_in_any_case() -> None:
    assert [boolean_of(cell) for cell in ("true", "FALSE")] == [True, False]
    with pytest.raises(ValueError, match=r"^must be true or false$"):
        boolean_of("1")
