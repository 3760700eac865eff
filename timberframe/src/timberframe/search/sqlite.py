"""The full-text index on SQLite: FTS5 tables that triggers fill."""

from collections.abc import Sequence
from itertools import islice
from typing import Any

from sqlalchemy import (
    ColumnElement,
    ColumnExpressionArgument,
    Function,
    Select,
    column,
    exists,
    func,
    literal,
    literal_column,
    select,
    table,
)

from timberframe.data.base import Base
from timberframe.data.query import AnySelect
from timberframe.search.base import FOLDED, Lookup, SearchIndex, Syntax, replaced, spaced

# SQLite knows Unicode 6.1 and treats what came later as letters: signs, arrows, most emoji.
_NEW_SYMBOLS = "".join(
    map(chr, (*range(0x20BA, 0x20D0), *range(0x2B4D, 0x2C00), *range(0x1F000, 0x1FC00)))
)


class SqliteIndex(SearchIndex):
    events = ("insert", "update", "delete")
    syntax = Syntax(quote='"', prefix="*", either=" OR ", every=" AND ")

    def __init__(self, model: type[Base], tiers: Sequence[int]) -> None:
        super().__init__(model, tiers)
        self._index = table(self.name, column("rowid"))

    @staticmethod
    def create_v1(table: str, *fields: str) -> list[str]:
        return _create(table, f"{table}_search", fields)

    @staticmethod
    def drop_v1(table: str) -> list[str]:
        return _drop(f"{table}_search")

    def split(self, text: str) -> Select[str]:
        view = table(f"{self.name}_split", column("word"), column("input"), column("start"))
        return select(view.c.word).where(view.c.input == text).order_by(view.c.start)

    def rows(self, lookup: Lookup, *where: ColumnExpressionArgument[bool]) -> AnySelect:
        rows = select(self.model.id, literal(lookup.rank).label("rank")).where(*where)
        return self._matching(rows, lookup.match).order_by(self._index.c.rowid)

    def any_row(self, match: str, where: ColumnElement[bool]) -> ColumnElement[bool]:
        rows: AnySelect = select(literal_column("1")).select_from(self.model).where(where)
        return exists(self._matching(rows, match))

    def required(
        self, widest: Lookup, *where: ColumnExpressionArgument[bool]
    ) -> Sequence[ColumnElement[bool]]:
        # Common words that never occur together are then compared once, not once per rank.
        row = self.rows(widest, *where).limit(1)
        return [exists(row.cte("any_hit").select())]

    def shares_any(self, trigrams: Sequence[str]) -> ColumnExpressionArgument[bool]:
        name = f"{self.name}_trigrams"
        index = table(name, column("rowid"), column(name))
        any_of = " OR ".join(f'"{trigram}"' for trigram in trigrams)
        return self.vocabulary.c.id.in_(select(index.c.rowid).where(index.c[name].match(any_of)))

    @staticmethod
    def least(one: Any, other: Any) -> Function[Any]:
        return func.min(one, other)

    def _matching(self, rows: AnySelect, match: str) -> AnySelect:
        # An FTS5 table has a column of its own name, which stands for all its columns.
        matches = literal_column(f"{self.name}.{self.name}").match(match)
        return rows.join(self._index, self._index.c.rowid == self.model.id).where(matches)


def _create(table: str, search: str, fields: Sequence[str]) -> list[str]:
    add = _add(search, fields)
    changed = " OR ".join(f"new.{field} IS NOT old.{field}" for field in ("id", *fields))
    return [
        # Only FTS3's tokenizer can be called from SQL.
        f"CREATE VIRTUAL TABLE {search}_tokens"
        f" USING fts3tokenize('unicode61', 'remove_diacritics=2', 'separators={_NEW_SYMBOLS}')",
        *_split(search),
        # Indexed prefixes: the tier and up to three letters; longer ones use the vocabulary.
        f"CREATE VIRTUAL TABLE {search} USING"
        " fts5(words, tokenize='ascii', detail='none', columnsize=0, prefix='2 3 4')",
        f"CREATE TABLE {search}_words (id INTEGER PRIMARY KEY, word TEXT NOT NULL UNIQUE)",
        f"CREATE VIRTUAL TABLE {search}_trigrams USING"
        " fts5(word, content='', tokenize='trigram', detail='none', columnsize=0)",
        f"""CREATE TRIGGER {search}_new_word AFTER INSERT ON {search}_words
            WHEN new.word NOT GLOB '*[0-9]*' BEGIN
                INSERT INTO {search}_trigrams (rowid, word) VALUES (new.id, ' '||new.word||' ');
            END""",
        f"CREATE TRIGGER {search}_insert AFTER INSERT ON {table} BEGIN {add} END",
        # Only if the text changed: rewriting the index costs far more than changing a stock count.
        f"""CREATE TRIGGER {search}_update AFTER UPDATE OF id, {", ".join(fields)} ON {table}
            WHEN {changed} BEGIN DELETE FROM {search} WHERE rowid = old.id; {add} END""",
        f"""CREATE TRIGGER {search}_delete AFTER DELETE ON {table}
            BEGIN DELETE FROM {search} WHERE rowid = old.id; END""",
        f"CREATE TRIGGER {search}_fill AFTER UPDATE OF id ON {table} BEGIN {add} END",
        f"UPDATE {table} SET id = id",
        f"DROP TRIGGER {search}_fill",
    ]


def _split(search: str) -> list[str]:
    """Views of the folded words of an `input`; as one, they would be too deep for the parser."""
    letters = iter(FOLDED.items())
    half = replaced("token", dict(islice(letters, len(FOLDED) // 2)))
    whole = replaced("half", dict(letters))
    return [
        f"CREATE VIEW {search}_half AS SELECT input, start, token, {half} AS half"
        f" FROM {search}_tokens",
        f"CREATE VIEW {search}_split AS SELECT input, start,"
        f" CASE WHEN token GLOB '*[^a-z0-9]*' THEN {whole} ELSE token END AS word"
        f" FROM {search}_half",
    ]


def _add(search: str, fields: Sequence[str]) -> str:
    """Index one row; its fields are split as one text, since each call of the tokenizer costs."""
    filled = [f"coalesce(new.{field}, '')" for field in fields]
    text = spaced(filled)
    marks = [f"'{tier}' || word" for tier in range(1, len(fields) + 1)]
    marked = " ".join(
        # A subquery is evaluated once per row, not once per word.
        f"WHEN start < (SELECT length(CAST({spaced(filled[:tier])} AS BLOB)))"
        f" THEN {spaced(marks[tier - 1 :])}"
        for tier in range(1, len(fields) + 1)
    )
    return f"""
        -- Of a row that was replaced: that runs no delete trigger, unless a connection wants it.
        DELETE FROM {search} WHERE rowid = new.id;
        INSERT INTO {search} (rowid, words)
            SELECT new.id, coalesce(group_concat(CASE {marked} END, ' '), '')
            FROM {search}_split WHERE input = {text};
        INSERT INTO {search}_words (word)
            SELECT word FROM {search}_split
            WHERE input = {text} AND word NOT GLOB '[0-9]*'
            ON CONFLICT DO NOTHING;"""


def _drop(search: str) -> list[str]:
    triggers = [f"DROP TRIGGER {search}_{event}" for event in ("insert", "update", "delete")]
    views = [f"DROP VIEW {search}_{view}" for view in ("split", "half")]
    tables = [f"DROP TABLE {search}{part}" for part in ("_trigrams", "_words", "", "_tokens")]
    return [*triggers, *views, *tables]
