"""What the words of a query stand for: completion and correction by the words of rows."""

from collections import Counter
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from functools import reduce
from itertools import count
from operator import add

from sqlalchemy import (
    ColumnElement,
    Integer,
    Select,
    case,
    func,
    literal_column,
    select,
    union_all,
)
from sqlalchemy.ext.asyncio import AsyncSession

from timberframe.data.column_types import LAST_CHARACTER
from timberframe.search.base import MAX_WORD, SearchIndex, Term

MAX_COMPLETIONS = 32
_CANDIDATES_PER_QUERY = 100  # words that are compared at a time for a correction
_TERMS_PER_QUERY = 8  # terms that are looked up in one query
_MIN_CORRECTED = 4
_MIN_SIMILARITY = 0.7  # one wrong letter of four, two of seven


class Vocabulary:
    """The distinct words of the `readable` rows of a table; None means all rows."""

    def __init__(
        self, db: AsyncSession, index: SearchIndex, readable: ColumnElement[bool] | None
    ) -> None:
        self._db = db
        self._index = index
        self._readable = readable
        self._word: ColumnElement[str] = index.vocabulary.c.word

    async def terms(self, words: Sequence[str]) -> list[Term]:
        """A term for each word; empty if a word has none."""
        completions = await self._completions(words)
        terms = []
        for word in words:
            if word[0] in "0123456789" or len(word) == MAX_WORD:
                term: Term | None = Term(word, [word], is_prefix=True)
            else:
                meanings = _meanings(word, completions[word], is_last=word == words[-1])
                term = await self._first(list(meanings)) or await self._correct(word)
            if term is None:
                return []
            terms.append(term)
        return terms

    async def _first(self, terms: Sequence[Term]) -> Term | None:
        """The first of `terms` that any of the readable rows has."""
        if self._readable is None:
            return terms[0] if terms else None
        index, readable = self._index, self._readable
        for start in range(0, len(terms), _TERMS_PER_QUERY):
            some = terms[start : start + _TERMS_PER_QUERY]
            rows = (index.any_row(index.match(index.tiers[-1], [term]), readable) for term in some)
            # CASE evaluates no condition after the first true one.
            first = case(*((row, place) for place, row in enumerate(rows)))
            place: int | None = await self._db.scalar(select(first))
            if place is not None:
                return some[place]
        return None

    async def _completions(self, words: Sequence[str]) -> dict[str, list[str]]:
        """The first words of the vocabulary that begin with each of `words`."""
        parts = [
            select(literal_column(str(place)).label("place"), self._word.label("word"))
            .where(self._word >= word, self._word < word + LAST_CHARACTER)
            .distinct()
            .order_by(self._word)
            .limit(MAX_COMPLETIONS + 1)
            .subquery()
            for place, word in enumerate(words)
        ]
        completions: dict[str, list[str]] = {word: [] for word in words}
        if parts:
            rows = await self._db.execute(union_all(*(select(part) for part in parts)))
            for place, complete in sorted(rows.all()):
                completions[words[place]].append(complete)
        return completions

    async def _correct(self, word: str) -> Term | None:
        """The word most similar to `word`, at least 70 %, of all that share a trigram with it.

        Candidates come in descending order of an upper bound of their similarity, until none can be
        better than the best: a fixed number would depend on words that only unreadable rows have.
        """
        if len(word) < _MIN_CORRECTED:
            return None
        candidates = self._candidates(word)
        matcher = SequenceMatcher(b=word)
        best, similarity = None, 0.0
        for offset in count(step=_CANDIDATES_PER_QUERY):
            candidate_words = (await self._db.scalars(candidates.offset(offset))).all()
            similar: dict[str, float] = {}
            for each in candidate_words:
                matcher.set_seq1(each)
                if (ratio := matcher.ratio()) > similarity and ratio >= _MIN_SIMILARITY:
                    similar[each] = ratio
            # A stable sort: equally similar words stay in the order of the candidates.
            in_order = sorted(similar, key=lambda each: similar[each], reverse=True)
            if better := await self._first([Term(each, [each]) for each in in_order]):
                best, similarity = better, similar[better.loose[0]]
            if len(candidate_words) < _CANDIDATES_PER_QUERY or matcher.quick_ratio() <= similarity:
                break
        return best

    def _candidates(self, word: str) -> Select[str]:
        """The words that may be similar, by an upper bound of `SequenceMatcher.ratio`.

        The bound is `SequenceMatcher.quick_ratio`: the letters in common, in whatever order.
        """
        padded = f" {word} "
        trigrams = sorted({padded[i : i + 3] for i in range(len(word))})
        length = func.length(self._word, type_=Integer)
        common: ColumnElement[int] = reduce(
            add,
            (
                self._index.least(times, length - func.length(func.replace(self._word, letter, "")))
                for letter, times in Counter(word).items()
            ),
        )
        # In integer millionths, which both engines divide and compare alike.
        bound = common * 2_000_000 // (length + len(word))
        return (
            select(self._word)
            .where(self._index.shares_any(trigrams))
            .where(length.between(len(word) - 2, len(word) + 2))
            .where(bound >= int(_MIN_SIMILARITY * 1_000_000))
            .order_by(bound.desc(), self._word)
            .limit(_CANDIDATES_PER_QUERY)
        )


def _meanings(word: str, completions: Sequence[str], *, is_last: bool) -> Iterator[Term]:
    """What `word` may stand for, best first; `completions` has up to one more than the maximum."""
    whole = word if completions[:1] == [word] else None
    if whole and not is_last:
        yield Term(whole, [whole])
    if len(completions) > MAX_COMPLETIONS:
        yield Term(whole, [word], is_prefix=True)
    elif completions:
        yield Term(whole, completions)
