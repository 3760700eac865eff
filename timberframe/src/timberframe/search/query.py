"""Full-text search: alike on both engines, at a cost that does not grow with the table.

A row ranks higher the fewer of the first fields it takes to find all words of the query; within
that, whole words come before prefixes. Each rank is one lookup in the order of ids that stops at
MAX_HITS, and lower ranks are looked up only if hits are missing.

What a word of the query stands for depends only on the words of rows that the viewer may read:
otherwise hits would reveal which words somebody else's rows have.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from functools import reduce
from itertools import count
from operator import add
from typing import Any

from sqlalchemy import (
    CTE,
    ColumnElement,
    ColumnExpressionArgument,
    Integer,
    Select,
    String,
    TableClause,
    and_,
    case,
    cast,
    column,
    exists,
    false,
    func,
    literal,
    literal_column,
    or_,
    select,
    table,
    union_all,
)
from sqlalchemy.dialects.postgresql import TSQUERY
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from timberframe.data.base import LAST_CHARACTER, Base
from timberframe.data.query import AnySelect
from timberframe.data.schema_check import need_triggers
from timberframe.search.index import MAX_WORD, triggers_of

MAX_HITS = 500
MAX_WORDS = 10
MAX_COMPLETIONS = 32
_CANDIDATES = 100  # words that are compared at a time for a correction
_LOOKED_UP = 8  # terms that are looked up in one query
_MIN_CORRECTED = 4
_LIKENESS = 0.7  # one wrong letter of four, two of seven

# If this share of the first rows matches, scanning the table finds MAX_HITS sooner than
# PostgreSQL's index, which always returns all matches.
_SAMPLE_ROWS = 1000
_FREQUENT = 0.03
_ROWS_READ = 30_000


@dataclass(frozen=True)
class Term:
    """What a word of the query stands for: `word` itself, and the words of `loose`."""

    word: str | None  # None where no row has it as a whole word
    loose: Sequence[str]
    is_prefix: bool = False  # `loose` are prefixes, with too many completions to list


@dataclass(frozen=True)
class Lookup:
    """The rows that match, with `rank` or, if they match one of `better` too, with its rank."""

    rank: int
    match: str
    better: Sequence["Lookup"] = ()
    last_id: int | None = None  # scan the table up to this id, without the index


@dataclass(frozen=True)
class Found:
    model: type[Base]
    is_sqlite: bool
    words: Sequence[str] = ()
    terms: Sequence[Term] = ()
    lookups: Sequence[Lookup] = ()

    def hits(self, *where: ColumnExpressionArgument[bool]) -> CTE:
        """Columns `id` and `rank` of the first MAX_HITS rows of `where`, by rank, then id."""
        if not self.lookups:
            return select(self.model.id, literal(0).label("rank")).where(false()).cte("hits")
        conditions = self._is_any(*where) if self.is_sqlite else []
        lists: list[CTE] = []
        arms: list[Any] = []
        for lookup in self.lookups:
            hits = self._rows(lookup, *where).cte()
            # Every lookup of a lower rank finds a row again: keep the first.
            news = (hits.c.id.not_in(select(seen.c.id)) for seen in lists)
            arms.append(select(hits.c.id, hits.c.rank).where(*news, *conditions))
            lists.append(hits)
        return union_all(*arms).limit(MAX_HITS).cte("hits")

    def _is_any(self, *where: ColumnExpressionArgument[bool]) -> list[ColumnElement[bool]]:
        """Require that the widest lookup finds a row.

        Common words that never occur together are then compared once, not once per rank.
        """
        row = self._rows(self.lookups[-1], *where).limit(1)
        return [exists(row.cte("any_hit").select())]

    def _rows(self, lookup: Lookup, *where: ColumnExpressionArgument[bool]) -> AnySelect:
        ranks = [(self._matches(better.match), better.rank) for better in lookup.better]
        rank = case(*ranks, else_=lookup.rank) if ranks else literal(lookup.rank)
        rows = select(self.model.id, rank.label("rank")).where(*where).limit(MAX_HITS)
        matches = self._matches(lookup.match)
        if self.is_sqlite:
            index = self._index()
            rows = rows.join(index, index.c.rowid == self.model.id)
            return rows.where(matches).order_by(index.c.rowid)
        if lookup.last_id:
            # IS TRUE keeps PostgreSQL from using an index.
            rows = rows.where(self.model.id <= lookup.last_id, matches.is_(True))
            return rows.order_by(self.model.id)
        # `+ 0`, because the planner would rather scan the table in the order of plain ids.
        return rows.where(matches).order_by(rank.desc(), self.model.id + 0)

    def any_row(self, match: str, where: ColumnElement[bool]) -> ColumnElement[bool]:
        rows: AnySelect = select(literal_column("1")).select_from(self.model).where(where)
        if self.is_sqlite:
            index = self._index()
            rows = rows.join(index, index.c.rowid == self.model.id)
        return exists(rows.where(self._matches(match)))

    def _index(self) -> TableClause:
        return table(f"{self.model.__tablename__}_search", column("rowid"))

    def _matches(self, match: str) -> ColumnElement[bool]:
        name = f"{self.model.__tablename__}_search"
        if self.is_sqlite:
            # An FTS5 table has a column of its own name, which stands for all its columns.
            return literal_column(f"{name}.{name}").match(match)
        words: ColumnElement[Any] = literal_column(f"{self.model.__tablename__}.{name}")
        return words.op("@@", is_comparison=True)(cast(match, TSQUERY))


class Search:
    """Resolves `q` for a model whose index was created by `search.index.create_v1`."""

    def __init__(self, model: type[Base], *fields: InstrumentedAttribute[Any]) -> None:
        """`fields` are those of the index, in the same order."""
        self.model = model
        self.fields = fields
        need_triggers(model.__table__, triggers_of(model.__tablename__))
        self.tiers = range(1, len(fields) + 1)
        self.name = f"{model.__tablename__}_search"
        words = table(f"{self.name}_words", column("id"), column("word", String))
        self.word_ids, self.words = words.c.id, words.c.word

    async def find(self, db: AsyncSession, q: str) -> Found:
        """Find the rows that have all words of `q`, as whole words or as prefixes.

        A word that no row has is taken for a typo. A word followed by others counts as complete, if
        it can be. Nothing in `q` is an operator.

        This looks at the words of all rows, as if the viewer could read them. Any hit proves that
        it made no difference; without hits, call `confirm`.
        """
        is_sqlite = db.get_bind().dialect.name == "sqlite"
        words = await self._split(db, q, is_sqlite)
        terms = await self._terms(db, words, is_sqlite, readable=None)
        return await self._found(db, words, terms, is_sqlite)

    async def confirm(
        self, db: AsyncSession, found: Found, *, readable: ColumnElement[bool]
    ) -> Found:
        """Resolve the words by the `readable` rows alone; return `found` if that changes nothing.

        `readable` must include the rows of every hit.
        """
        if not found.terms:  # a word that no row has, no readable row has
            return found
        terms = await self._terms(db, found.words, found.is_sqlite, readable=readable)
        if terms == found.terms:
            return found
        return await self._found(db, found.words, terms, found.is_sqlite)

    async def _found(
        self, db: AsyncSession, words: Sequence[str], terms: Sequence[Term], is_sqlite: bool
    ) -> Found:
        lookups = self._lookups(terms, is_sqlite) if terms else []
        if lookups and not is_sqlite:
            lookups = await self._choose_ways(db, lookups)
        return Found(self.model, is_sqlite, words, terms, lookups)

    async def _split(self, db: AsyncSession, q: str, is_sqlite: bool) -> list[str]:
        """Split `q` by the same code as the indexed text, so that nothing can differ."""
        # NUL and lone surrogates cannot be sent to the database.
        text = q.replace("\0", " ").encode(errors="replace").decode()
        if is_sqlite:
            view = table(f"{self.name}_split", column("word"), column("input"), column("start"))
            words = select(view.c.word).where(view.c.input == text).order_by(view.c.start)
        else:
            split = getattr(func, f"{self.name}_split")
            words = select(func.unnest(split(text)).column_valued("word"))
        found = [word[:MAX_WORD] for word in await db.scalars(words)]
        return list(dict.fromkeys(found))[:MAX_WORDS]

    async def _terms(
        self,
        db: AsyncSession,
        words: Sequence[str],
        is_sqlite: bool,
        readable: ColumnElement[bool] | None,
    ) -> list[Term]:
        """Terms by the words of `readable` rows, None for all; empty if a word has no term."""
        completions = await self._completions(db, words)
        terms = []
        for word in words:
            if word[0] in "0123456789" or len(word) == MAX_WORD:
                term: Term | None = Term(word, [word], is_prefix=True)
            else:
                meanings = _meanings(word, completions[word], is_last=word == words[-1])
                term = await self._first(db, list(meanings), is_sqlite, readable)
                term = term or await self._correct(db, word, is_sqlite, readable)
            if term is None:
                return []
            terms.append(term)
        return terms

    async def _first(
        self,
        db: AsyncSession,
        terms: Sequence[Term],
        is_sqlite: bool,
        readable: ColumnElement[bool] | None,
    ) -> Term | None:
        """The first of `terms` that any of the `readable` rows has."""
        if readable is None:
            return terms[0] if terms else None
        found = Found(self.model, is_sqlite)
        for start in range(0, len(terms), _LOOKED_UP):
            some = terms[start : start + _LOOKED_UP]
            rows = (
                found.any_row(_match(self.tiers[-1], [term], is_sqlite), readable) for term in some
            )
            # CASE evaluates no condition after the first true one.
            first = case(*((row, place) for place, row in enumerate(rows)))
            place: int | None = await db.scalar(select(first))
            if place is not None:
                return some[place]
        return None

    async def _completions(self, db: AsyncSession, words: Sequence[str]) -> dict[str, list[str]]:
        """The first words of the vocabulary that begin with each of `words`."""
        parts = [
            select(literal_column(str(place)).label("place"), self.words.label("word"))
            .where(self.words >= word, self.words < word + LAST_CHARACTER)
            .distinct()
            .order_by(self.words)
            .limit(MAX_COMPLETIONS + 1)
            .subquery()
            for place, word in enumerate(words)
        ]
        completions: dict[str, list[str]] = {word: [] for word in words}
        if parts:
            rows = await db.execute(union_all(*(select(part) for part in parts)))
            for place, complete in sorted(rows.all()):
                completions[words[place]].append(complete)
        return completions

    async def _correct(
        self,
        db: AsyncSession,
        word: str,
        is_sqlite: bool,
        readable: ColumnElement[bool] | None,
    ) -> Term | None:
        """The word most similar to `word`, at least 70 %, of all that share a trigram with it.

        Candidates come in descending order of an upper bound of their similarity, until none can be
        better than the best: a fixed number would depend on words that only unreadable rows have.
        """
        if len(word) < _MIN_CORRECTED:
            return None
        candidates = self._candidates(word, is_sqlite)
        matcher = SequenceMatcher(b=word)
        best, likeness = None, 0.0
        for offset in count(step=_CANDIDATES):
            candidate_words = (await db.scalars(candidates.offset(offset))).all()
            alike: dict[str, float] = {}
            for each in candidate_words:
                matcher.set_seq1(each)
                if (ratio := matcher.ratio()) > likeness and ratio >= _LIKENESS:
                    alike[each] = ratio
            # A stable sort: equally similar words stay in the order of the candidates.
            in_order = sorted(alike, key=lambda each: alike[each], reverse=True)
            terms = [Term(each, [each]) for each in in_order]
            if better := await self._first(db, terms, is_sqlite, readable):
                best, likeness = better, alike[better.loose[0]]
            if len(candidate_words) < _CANDIDATES or matcher.quick_ratio() <= likeness:
                break
        return best

    def _candidates(self, word: str, is_sqlite: bool) -> Select[str]:
        """The words that may be similar, by an upper bound of `SequenceMatcher.ratio`.

        The bound is `SequenceMatcher.quick_ratio`: the letters in common, in whatever order.
        """
        padded = f" {word} "
        trigrams = sorted({padded[i : i + 3] for i in range(len(word))})
        length = func.length(self.words, type_=Integer)
        fewest = func.min if is_sqlite else func.least
        common: ColumnElement[int] = reduce(
            add,
            (
                fewest(times, length - func.length(func.replace(self.words, letter, "")))
                for letter, times in Counter(word).items()
            ),
        )
        # In integer millionths, which both engines divide and compare alike.
        bound = common * 2_000_000 // (length + len(word))
        return (
            select(self.words)
            .where(self._shares_any(trigrams, is_sqlite))
            .where(length.between(len(word) - 2, len(word) + 2))
            .where(bound >= int(_LIKENESS * 1_000_000))
            .order_by(bound.desc(), self.words)
            .limit(_CANDIDATES)
        )

    def _shares_any(
        self, trigrams: Sequence[str], is_sqlite: bool
    ) -> ColumnExpressionArgument[bool]:
        if is_sqlite:
            name = f"{self.name}_trigrams"
            index = table(name, column("rowid"), column(name))
            any_of = " OR ".join(f'"{trigram}"' for trigram in trigrams)
            return self.word_ids.in_(select(index.c.rowid).where(index.c[name].match(any_of)))
        patterns = (f"%{trigram}%".replace("% ", "").replace(" %", "") for trigram in trigrams)
        is_indexed = self.words.op("!~")(literal_column("'[0-9]'"))
        return and_(is_indexed, or_(*(self.words.like(pattern) for pattern in patterns)))

    def _lookups(self, terms: Sequence[Term], is_sqlite: bool) -> list[Lookup]:
        lookups = []
        for tier in self.tiers:
            rank = 2 * (len(self.tiers) - tier) + 1
            whole = [Term(None, [term.word]) for term in terms if term.word]
            if len(whole) == len(terms):
                lookups.append(Lookup(rank + 1, _match(tier, whole, is_sqlite)))
            if whole != [Term(None, term.loose, term.is_prefix) for term in terms]:
                lookups.append(Lookup(rank, _match(tier, terms, is_sqlite)))
        return lookups

    async def _choose_ways(self, db: AsyncSession, lookups: Sequence[Lookup]) -> list[Lookup]:
        """Choose between table scan and index on PostgreSQL, whose index always returns all
        matches.
        """
        words: ColumnElement[Any] = literal_column(self.name)
        first = select(self.model.id, words).order_by(self.model.id).limit(_SAMPLE_ROWS).subquery()
        counts = [
            func.count().filter(words.op("@@")(cast(lookup.match, TSQUERY))) for lookup in lookups
        ]
        sample = select(func.min(first.c.id), func.max(first.c.id), *counts).select_from(first)
        first_id, last_id, *frequent = (await db.execute(sample)).one()
        if max(frequent) < _FREQUENT * _SAMPLE_ROWS:
            return [replace(lookups[-1], better=lookups[:-1])]
        # Far enough even if filters exclude most rows: the scan ends once MAX_HITS are found.
        until = first_id + (last_id - first_id + 1) * _ROWS_READ // _SAMPLE_ROWS
        ways: list[Lookup] = []
        for lookup, matches in zip(lookups, frequent, strict=True):
            if matches >= _FREQUENT * _SAMPLE_ROWS:
                ways.append(replace(lookup, last_id=until))
            ways.append(lookup)
        return ways


def _meanings(word: str, completions: Sequence[str], *, is_last: bool) -> Iterator[Term]:
    """What `word` may stand for, best first; `completions` has up to one more than the maximum."""
    whole = word if completions[:1] == [word] else None
    if whole and not is_last:
        yield Term(whole, [whole])
    if len(completions) > MAX_COMPLETIONS:
        yield Term(whole, [word], is_prefix=True)
    elif completions:
        yield Term(whole, completions)


def _match(tier: int, terms: Sequence[Term], is_sqlite: bool) -> str:
    """A query in the engine's syntax; words have letters and digits only, but are quoted anyway."""
    if is_sqlite:
        quote, star, either, every = '"', "*", " OR ", " AND "
    else:
        quote, star, either, every = "'", ":*", " | ", " & "
    return every.join(
        "("
        + either.join(
            f"{quote}{tier}{word}{quote}{star if term.is_prefix else ''}" for word in term.loose
        )
        + ")"
        for term in terms
    )
