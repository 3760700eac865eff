"""Full-text search: alike on both engines, at a cost that does not grow with the table.

A row ranks higher the fewer of the first fields it takes to find all words of the query; within
that, whole words come before prefixes. Each rank is one lookup in the order of ids that stops at
MAX_HITS, and lower ranks are looked up only if hits are missing.

What a word of the query stands for depends only on the words of rows that the viewer may read:
otherwise hits would reveal which words somebody else's rows have.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    CTE,
    ColumnElement,
    ColumnExpressionArgument,
    false,
    literal,
    select,
    union_all,
)
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from timberframe.data.base import Base
from timberframe.data.schema_check import need_triggers
from timberframe.schemas.page import MAX_HITS
from timberframe.search.base import MAX_WORD, Lookup, SearchIndex, Term
from timberframe.search.index import INDEXES, triggers_of
from timberframe.search.vocabulary import Vocabulary

MAX_WORDS = 10


@dataclass(frozen=True)
class ResolvedQuery:
    """What is looked up for the words of a query."""

    index: SearchIndex
    words: Sequence[str]
    terms: Sequence[Term]
    lookups: Sequence[Lookup]

    def hits(self, *where: ColumnExpressionArgument[bool]) -> CTE:
        """Columns `id` and `rank` of the first MAX_HITS rows of `where`, by rank, then id."""
        if not self.lookups:
            none = select(self.index.model.id, literal(0).label("rank")).where(false())
            return none.cte("hits")
        required = self.index.required(self.lookups[-1], *where)
        lists: list[CTE] = []
        arms: list[Any] = []
        for lookup in self.lookups:
            hits = self.index.rows(lookup, *where).limit(MAX_HITS).cte()
            # Every lookup of a lower rank finds a row again: keep the first.
            news = (hits.c.id.not_in(select(seen.c.id)) for seen in lists)
            arms.append(select(hits.c.id, hits.c.rank).where(*news, *required))
            lists.append(hits)
        return union_all(*arms).limit(MAX_HITS).cte("hits")


class Search:
    """Resolves `q` for a model whose index was created by `search.index.create_v1`."""

    def __init__(self, model: type[Base], *fields: InstrumentedAttribute[Any]) -> None:
        """`fields` are those of the index, in the same order."""
        self.model = model
        self.fields = fields
        need_triggers(model.__table__, triggers_of(model.__tablename__))
        self._tiers = range(1, len(fields) + 1)
        self._indexes = {name: index(model, self._tiers) for name, index in INDEXES.items()}

    async def resolve(self, db: AsyncSession, q: str) -> ResolvedQuery:
        """Look for rows that have all words of `q`, as whole words or as prefixes.

        A word that no row has is taken for a typo. A word followed by others counts as complete, if
        it can be. Nothing in `q` is an operator.

        This uses the words of all rows, as if the viewer could read them. Any hit proves that it
        made no difference; without hits, call `confirm`.
        """
        index = self._indexes[db.get_bind().dialect.name]
        # NUL and lone surrogates cannot be sent to the database.
        text = q.replace("\0", " ").encode(errors="replace").decode()
        found = [word[:MAX_WORD] for word in await db.scalars(index.split(text))]
        words = list(dict.fromkeys(found))[:MAX_WORDS]
        terms = await Vocabulary(db, index, readable=None).terms(words)
        return await self._resolved(db, index, words, terms)

    async def confirm(
        self, db: AsyncSession, query: ResolvedQuery, *, readable: ColumnElement[bool]
    ) -> ResolvedQuery:
        """Resolve the words by the `readable` rows alone; return `query` if that changes nothing.

        `readable` must include the rows of every hit.
        """
        if not query.terms:  # a word that no row has, no readable row has
            return query
        terms = await Vocabulary(db, query.index, readable).terms(query.words)
        if terms == query.terms:
            return query
        return await self._resolved(db, query.index, query.words, terms)

    async def _resolved(
        self, db: AsyncSession, index: SearchIndex, words: Sequence[str], terms: Sequence[Term]
    ) -> ResolvedQuery:
        lookups = self._lookups(index, terms) if terms else []
        planned = await index.plan(db, lookups) if lookups else []
        return ResolvedQuery(index, words, terms, planned)

    def _lookups(self, index: SearchIndex, terms: Sequence[Term]) -> list[Lookup]:
        lookups = []
        for tier in self._tiers:
            rank = 2 * (len(self._tiers) - tier) + 1
            whole = [Term(None, [term.word]) for term in terms if term.word]
            if len(whole) == len(terms):
                lookups.append(Lookup(rank + 1, index.match(tier, whole)))
            if whole != [Term(None, term.loose, term.is_prefix) for term in terms]:
                lookups.append(Lookup(rank, index.match(tier, terms)))
        return lookups
