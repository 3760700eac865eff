"""Cells: every text comes back as it was, and none begins as a formula does."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.bulk.cells import boolean_of, integer_of, text_of, to_cell

FORMULAS = ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", "＋1", "－1", "＠1")
MARKS = ("'", "''", "'''", "'=", "''=", "'x", "''x", "'tis", "")
PLAIN = ("Chair", " =1", "a=1", "1-2", "é", "\u2028", "'tis the season", "a\r\nb", '"', ";", ",")


@pytest.mark.parametrize("text", FORMULAS)
def test_formula_is_made_inert(text: str) -> None:
    assert to_cell(text) == f"'{text}"
    assert text_of(to_cell(text)) == text


@pytest.mark.parametrize("text", PLAIN)
def test_other_text_is_left_alone(text: str) -> None:
    assert to_cell(text) == text
    assert text_of(text) == text


@given(st.text() | st.text(alphabet="'=+-@\t\r\n＝a", max_size=5) | st.sampled_from(MARKS))
def test_every_text_comes_back(text: str) -> None:
    cell = to_cell(text)
    assert cell
    assert text_of(cell) == text
    assert cell[0] not in "=+-@\t\r\n＝＋－＠"
    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerow([cell, "end"])
    assert next(csv.reader([buffer.getvalue()], strict=True)) == [cell, "end"]


def test_formula_from_a_spreadsheet_that_took_the_mark_away_is_the_same_text() -> None:
    assert text_of("=1+1") == "=1+1"


def test_what_is_no_number_and_no_truth_is_left_to_the_schema() -> None:
    assert [integer_of(cell) for cell in ("7", "-7", "007", "7.0", "٧", "7 ", "9" * 5000)] == [
        *(7, -7, 7, "7.0", "٧", "7 ", "9" * 5000)
    ]
    assert [boolean_of(cell) for cell in ("true", "FALSE", "yes", "1")] == [
        *(True, False, "yes", "1")
    ]
