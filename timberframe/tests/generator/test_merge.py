"""A change of generated code, made in a file that was edited since."""

import pytest

from timberframe.generator.merge import Conflict, merge

BEFORE = """class Book(Record):
    title: Mapped[str]
    owner_id: Mapped[int]


search = Search(Book, Book.title)
"""
AFTER = """class Book(Record):
    title: Mapped[str]
    pages: Mapped[int]
    owner_id: Mapped[int]


search = Search(Book, Book.title, Book.pages)
"""


def test_file_that_was_not_edited_becomes_what_is_generated() -> None:
    assert merge(BEFORE, AFTER, BEFORE) == AFTER
    assert merge(AFTER, BEFORE, AFTER) == BEFORE


EDITS = {
    "before": ("class Book", "# Mine\nclass Book"),
    "further down": ("search = ", "MINE = 1\nsearch = "),
    "neighbour": ("    title: Mapped[str]\n", "    title: Mapped[str] = mapped_column()\n"),
    "other neighbour": ("owner_id: Mapped[int]\n", "owner_id: Mapped[int] = mapped_column()\n"),
    "added between": ("title: Mapped[str]\n", "title: Mapped[str]\n    isbn: Mapped[str]\n"),
    "same line": ("Search(Book, ", "Search(Book, weights=(1, 2), *"),
}


@pytest.mark.parametrize(("old", "new"), EDITS.values(), ids=EDITS)
def test_what_was_edited_stays(old: str, new: str) -> None:
    edited = BEFORE.replace(old, new)
    changed = merge(BEFORE, AFTER, edited)
    assert changed == AFTER.replace(old, new)
    assert merge(AFTER, BEFORE, changed) == edited


CONFLICTS = {
    "both neighbours": (
        "    title: Mapped[str]\n    owner_id: Mapped[int]\n",
        "    name: str\n    of: int\n",
    ),
    "words": ("Book.title)", "*COLUMNS)"),
    "line": ("search = Search(Book, Book.title)\n", ""),
}


@pytest.mark.parametrize(("old", "new"), CONFLICTS.values(), ids=CONFLICTS)
def test_what_is_not_certain_is_a_conflict(old: str, new: str) -> None:
    with pytest.raises(Conflict):
        merge(BEFORE, AFTER, BEFORE.replace(old, new))
