"""The interface of a full-text index, and how both engines fold text."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from sqlalchemy import (
    ColumnElement,
    ColumnExpressionArgument,
    Function,
    Select,
    String,
    column,
    table,
)
from sqlalchemy.ext.asyncio import AsyncSession

from timberframe.data.base import Base
from timberframe.data.query import AnySelect

MAX_WORD = 64  # characters; a longer word is matched by this prefix

# Letters that do not decompose into a plain one, or that SQLite's tokenizer leaves unchanged. The
# statements of `create_v1` have them, so they never change.
FOLDED = {
    "ß": "ss",
    "æ": "ae",
    "œ": "oe",
    "þ": "th",
    "ﬁ": "fi",
    "ﬂ": "fl",
    "ﬀ": "ff",
    **dict(zip("øłđðħı", "olddhi", strict=True)),
    **dict(zip("άέήίόύώёй", "αεηιουωеи", strict=True)),
    **dict(zip("¹²³", "123", strict=True)),
}


@dataclass(frozen=True)
class Term:
    """What a word of the query stands for: `word` itself, and the words of `loose`."""

    word: str | None  # None where no row has it as a whole word
    loose: Sequence[str]
    is_prefix: bool = False  # `loose` are prefixes, with too many completions to list


@dataclass(frozen=True)
class Lookup:
    """The rows that match, with `rank` or, if they match one of `better` too, with its rank.

    `better` and `last_id` are set by `SearchIndex.plan`.
    """

    rank: int
    match: str
    better: Sequence["Lookup"] = ()
    last_id: int | None = None  # scan the table up to this id, without the index


class Syntax(NamedTuple):
    """How an engine writes a query: its quotes, the mark of a prefix, and its operators."""

    quote: str
    prefix: str
    either: str
    every: str


class SearchIndex(ABC):
    """The full-text index of one model's table, on one engine."""

    events: ClassVar[Sequence[str]]  # with a trigger on the table itself
    syntax: ClassVar[Syntax]

    def __init__(self, model: type[Base], tiers: Sequence[int]) -> None:
        """Each of `tiers` is how many of the first fields it covers."""
        self.model = model
        self.tiers = tiers
        self.name = f"{model.__tablename__}_search"
        self.vocabulary = table(f"{self.name}_words", column("id"), column("word", String))

    @staticmethod
    @abstractmethod
    def create_v1(table: str, *fields: str) -> list[str]:
        """The statements that create the index and fill it."""

    @staticmethod
    @abstractmethod
    def drop_v1(table: str) -> list[str]:
        """The statements that drop all that `create_v1` made."""

    @abstractmethod
    def split(self, text: str) -> Select[str]:
        """The words of `text`, split and folded by the same code as the rows, in their order."""

    def match(self, tier: int, terms: Sequence[Term]) -> str:
        """A query in the engine's syntax for rows that have all of `terms` in this tier.

        Words have letters and digits only, but are quoted anyway.
        """
        quote, prefix, either, every = self.syntax
        return every.join(
            "("
            + either.join(
                f"{quote}{tier}{word}{quote}{prefix if term.is_prefix else ''}"
                for word in term.loose
            )
            + ")"
            for term in terms
        )

    async def plan(self, db: AsyncSession, lookups: Sequence[Lookup]) -> Sequence[Lookup]:
        """Choose how each of `lookups`, best first, is best carried out."""
        return lookups

    @abstractmethod
    def rows(self, lookup: Lookup, *where: ColumnExpressionArgument[bool]) -> AnySelect:
        """Columns `id` and `rank` of the rows that match, by rank, then id."""

    @abstractmethod
    def any_row(self, match: str, where: ColumnElement[bool]) -> ColumnElement[bool]:
        """Whether a row of `where` matches."""

    def required(
        self, widest: Lookup, *where: ColumnExpressionArgument[bool]
    ) -> Sequence[ColumnElement[bool]]:
        """Conditions that end all lookups early if there are no hits."""
        return ()

    @abstractmethod
    def shares_any(self, trigrams: Sequence[str]) -> ColumnExpressionArgument[bool]:
        """Whether a word of the vocabulary, without digits, has one of `trigrams`."""

    @staticmethod
    @abstractmethod
    def least(one: Any, other: Any) -> Function[Any]:
        """The lesser of two values."""


def replaced(text: str, letters: dict[str, str]) -> str:
    for letter, plain in letters.items():
        text = f"replace({text}, '{letter}', '{plain}')"
    return text


def spaced(texts: Sequence[str]) -> str:
    return " || ' ' || ".join(texts)
