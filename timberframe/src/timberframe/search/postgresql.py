"""The full-text index on PostgreSQL: a generated `tsvector` column with a GIN index."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import (
    ColumnElement,
    ColumnExpressionArgument,
    Function,
    Select,
    and_,
    case,
    cast,
    exists,
    func,
    literal,
    literal_column,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import TSQUERY
from sqlalchemy.ext.asyncio import AsyncSession

from timberframe.data.query import AnySelect
from timberframe.search.base import (
    FOLDED,
    MAX_WORD,
    Lookup,
    SearchIndex,
    Syntax,
    replaced,
    spaced,
)

# If this share of the first rows matches, scanning the table finds enough hits sooner than the
# index, which always returns all matches.
_SAMPLE_ROWS = 1000
_FREQUENT = 0.03
_ROWS_READ = 30_000

_LETTER = "[[:alnum:]¼½¾]"


class PostgresqlIndex(SearchIndex):
    events = ("insert", "update")
    syntax = Syntax(quote="'", prefix=":*", either=" | ", every=" & ")

    @staticmethod
    def create_v1(table: str, *fields: str) -> list[str]:
        return _create(table, f"{table}_search", fields)

    @staticmethod
    def drop_v1(table: str) -> list[str]:
        return _drop(table, f"{table}_search")

    def split(self, text: str) -> Select[str]:
        split = getattr(func, f"{self.name}_split")
        return select(func.unnest(split(text)).column_valued("word"))

    async def plan(self, db: AsyncSession, lookups: Sequence[Lookup]) -> Sequence[Lookup]:
        """Choose between scanning the table and the index, by how many of the first rows match."""
        words: ColumnElement[Any] = literal_column(self.name)
        first = select(self.model.id, words).order_by(self.model.id).limit(_SAMPLE_ROWS).subquery()
        counts = [
            func.count().filter(words.op("@@")(cast(lookup.match, TSQUERY))) for lookup in lookups
        ]
        sample = select(func.min(first.c.id), func.max(first.c.id), *counts).select_from(first)
        first_id, last_id, *frequent = (await db.execute(sample)).one()
        if max(frequent) < _FREQUENT * _SAMPLE_ROWS:
            return [replace(lookups[-1], better=lookups[:-1])]
        # Far enough even if filters exclude most rows: the scan ends once there are enough hits.
        until = first_id + (last_id - first_id + 1) * _ROWS_READ // _SAMPLE_ROWS
        ways: list[Lookup] = []
        for lookup, matches in zip(lookups, frequent, strict=True):
            if matches >= _FREQUENT * _SAMPLE_ROWS:
                ways.append(replace(lookup, last_id=until))
            ways.append(lookup)
        return ways

    def rows(self, lookup: Lookup, *where: ColumnExpressionArgument[bool]) -> AnySelect:
        ranks = [(self._matches(better.match), better.rank) for better in lookup.better]
        rank = case(*ranks, else_=lookup.rank) if ranks else literal(lookup.rank)
        rows = select(self.model.id, rank.label("rank")).where(*where)
        matches = self._matches(lookup.match)
        if lookup.last_id:
            # IS TRUE keeps PostgreSQL from using an index.
            rows = rows.where(self.model.id <= lookup.last_id, matches.is_(True))
            return rows.order_by(self.model.id)
        # `+ 0`, because the planner would rather scan the table in the order of plain ids.
        return rows.where(matches).order_by(rank.desc(), self.model.id + 0)

    def any_row(self, match: str, where: ColumnElement[bool]) -> ColumnElement[bool]:
        rows: AnySelect = select(literal_column("1")).select_from(self.model).where(where)
        return exists(rows.where(self._matches(match)))

    def shares_any(self, trigrams: Sequence[str]) -> ColumnExpressionArgument[bool]:
        words = self.vocabulary.c.word
        patterns = (f"%{trigram}%".replace("% ", "").replace(" %", "") for trigram in trigrams)
        is_indexed = words.op("!~")(literal_column("'[0-9]'"))
        return and_(is_indexed, or_(*(words.like(pattern) for pattern in patterns)))

    @staticmethod
    def least(one: Any, other: Any) -> Function[Any]:
        return func.least(one, other)

    def _matches(self, match: str) -> ColumnElement[bool]:
        words: ColumnElement[Any] = literal_column(f"{self.model.__tablename__}.{self.name}")
        return words.op("@@", is_comparison=True)(cast(match, TSQUERY))


def _create(table: str, search: str, fields: Sequence[str]) -> list[str]:
    # Words of the last tier, without its digit; `:` follows `9`, so numbers are left out.
    word = "substr(lexeme, 2)"
    is_kept = f"""lexeme >= '{len(fields)}:' COLLATE "C" AND lexeme < '{len(fields) + 1}'"""
    return [
        "CREATE EXTENSION IF NOT EXISTS pg_trgm",
        _split(search),
        # The body is parsed at creation, so that a dump can be restored whatever the search path.
        f"""CREATE FUNCTION {search}_vector({", ".join(f"{field} text" for field in fields)})
            RETURNS tsvector LANGUAGE sql IMMUTABLE PARALLEL SAFE
            RETURN ({_marked(search, fields)})::tsvector""",
        f"""ALTER TABLE {table} ADD COLUMN {search} tsvector
            GENERATED ALWAYS AS ({search}_vector({", ".join(fields)})) STORED""",
        # Every search reads the whole pending list of the GIN index: keep it short.
        f"CREATE INDEX ix_{search} ON {table} USING gin ({search})"
        " WITH (gin_pending_list_limit = 256)",
        # Not unique: two transactions with the same new word would wait for each other.
        f"""CREATE TABLE {search}_words (word text COLLATE "C" NOT NULL)""",
        f"CREATE INDEX {search}_words_word ON {search}_words (word)",
        f"CREATE INDEX {search}_words_trigrams ON {search}_words"
        " USING gin (word gin_trgm_ops) WHERE word !~ '[0-9]'",
        f"INSERT INTO {search}_words SELECT DISTINCT {word}"
        f" FROM {table}, unnest(tsvector_to_array({search})) AS lexeme WHERE {is_kept}",
        f"""CREATE FUNCTION {search}_add() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                INSERT INTO {search}_words
                    SELECT {word} FROM unnest(tsvector_to_array(new.{search})) AS lexeme
                    WHERE {is_kept} AND NOT EXISTS
                        (SELECT FROM {search}_words AS known WHERE known.word = {word});
                RETURN NULL;
            END $$""",
        f"""CREATE TRIGGER {search}_insert AFTER INSERT ON {table}
            FOR EACH ROW EXECUTE FUNCTION {search}_add()""",
        f"""CREATE TRIGGER {search}_update AFTER UPDATE OF {", ".join(fields)} ON {table}
            FOR EACH ROW WHEN (new.{search} IS DISTINCT FROM old.{search})
            EXECUTE FUNCTION {search}_add()""",
    ]


def _split(search: str) -> str:
    single = {letter: plain for letter, plain in FOLDED.items() if len(plain) == 1}
    double = {letter: plain for letter, plain in FOLDED.items() if len(plain) > 1}
    text = replaced("normalize(casefold(input COLLATE unicode_collation), NFD)", double)
    text = f"translate({text}, '{''.join(single)}', '{''.join(single.values())}')"
    function = f"""
        CREATE FUNCTION {search}_split(input text) RETURNS text[]
        LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$ BEGIN
            IF octet_length(input) = length(input) THEN -- ASCII: a third of the cost
                input := lower(input);
            ELSE
                input := normalize(regexp_replace({text}, '[\\u0300-\\u036f]+', '', 'g'), NFC);
            END IF;
            IF octet_length(input) > 2000 THEN -- a tsvector takes no word that is longer
                input := regexp_replace(input COLLATE unicode_collation,
                    '({_LETTER}{{{MAX_WORD}}}){_LETTER}+', '\\1', 'g');
            END IF;
            RETURN array_remove(regexp_split_to_array(
                input COLLATE unicode_collation, '[^[:alnum:]¼½¾]+'), '');
        END $$"""
    # The collation that knows the letters of all languages is named differently by version and
    # build.
    return f"""
        DO $do$ DECLARE
            known text[] := ARRAY['pg_unicode_fast', 'pg_c_utf8', 'und-x-icu', 'C.utf8'];
            function text := $function${function}$function$;
            collation_name text := (
                SELECT collname FROM pg_collation
                WHERE collname = ANY (known) AND collencoding IN (-1, pg_char_to_encoding('UTF8'))
                ORDER BY array_position(known, collname::text) LIMIT 1);
        BEGIN
            IF collation_name IS NULL THEN
                RAISE EXCEPTION 'full-text search needs one of the collations %', known;
            END IF;
            IF collation_name <> 'pg_unicode_fast' THEN -- casefold came with it
                function := replace(function, 'casefold(', 'lower(');
            END IF;
            EXECUTE replace(function, 'unicode_collation', quote_ident(collation_name));
        END $do$"""


def _marked(search: str, fields: Sequence[str]) -> str:
    filled = [f"coalesce({field}, '')" for field in fields]
    return " || ".join(
        f"' {tier}' || array_to_string({search}_split({spaced(filled[:tier])}), ' {tier}')"
        for tier in range(1, len(fields) + 1)
    )


def _drop(table: str, search: str) -> list[str]:
    return [
        f"DROP TRIGGER {search}_insert ON {table}",
        f"DROP TRIGGER {search}_update ON {table}",
        f"ALTER TABLE {table} DROP COLUMN {search}",
        f"DROP TABLE {search}_words",
        *(f"DROP FUNCTION {search}_{function}" for function in ("add", "vector", "split")),
    ]
