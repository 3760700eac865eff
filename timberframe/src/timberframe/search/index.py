"""The full-text index of a table, kept by the database itself: no write path can miss it.

Both engines split and fold text alike, and index a row's words once per tier: `1chair` is a word of
the first field, `2chair` of the first two, and so on. "All words within the first two fields" is
then a single lookup that reads matching rows only; weights or column filters would scan every row
that has the words anywhere. A vocabulary of the distinct words serves to complete prefixes and to
correct typos.

Migrations call `create_v1` and `drop_v1`, which must never change: a new way becomes a `_v2`. A
migration that alters or drops an indexed column drops the index before and creates it after.
"""

from collections.abc import Callable, Sequence
from itertools import islice

_LETTER = "[[:alnum:]¼½¾]"
MAX_WORD = 64  # characters; a longer word is matched by this prefix

# Letters that do not decompose into a plain one, or that SQLite's tokenizer leaves unchanged.
_FOLDED = {
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

# SQLite knows Unicode 6.1 and treats what came later as letters: signs, arrows, most emoji.
_NEW_SYMBOLS = "".join(
    map(chr, (*range(0x20BA, 0x20D0), *range(0x2B4D, 0x2C00), *range(0x1F000, 0x1FC00)))
)


def is_search_object(name: str | None) -> bool:
    """Whether a table, column or index belongs to a search index, and so to no model."""
    return name is not None and "_search" in name


def triggers_of(table: str) -> dict[str, list[str]]:
    """The triggers that `create_v1` puts on the table itself, by dialect."""
    events = {"sqlite": ("insert", "update", "delete"), "postgresql": ("insert", "update")}
    return {
        dialect: [f"{table}_search_{event}" for event in some] for dialect, some in events.items()
    }


def create_v1(execute: Callable[[str], object], dialect: str, table: str, *fields: str) -> None:
    """Index `fields`, in order of weight, for all present and future rows."""
    create = _create_on_sqlite if dialect == "sqlite" else _create_on_postgresql
    for statement in create(table, f"{table}_search", fields):
        execute(statement)


def drop_v1(execute: Callable[[str], object], dialect: str, table: str) -> None:
    drop = _drop_from_sqlite if dialect == "sqlite" else _drop_from_postgresql
    for statement in drop(table, f"{table}_search"):
        execute(statement)


def _create_on_sqlite(table: str, search: str, fields: Sequence[str]) -> list[str]:
    add = _sqlite_add(search, fields)
    changed = " OR ".join(f"new.{field} IS NOT old.{field}" for field in ("id", *fields))
    return [
        # Only FTS3's tokenizer can be called from SQL.
        f"CREATE VIRTUAL TABLE {search}_tokens"
        f" USING fts3tokenize('unicode61', 'remove_diacritics=2', 'separators={_NEW_SYMBOLS}')",
        *_sqlite_split(search),
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


def _sqlite_split(search: str) -> list[str]:
    """Views of the folded words of an `input`; as one, they would be too deep for the parser."""
    letters = iter(_FOLDED.items())
    half = _replaced("token", dict(islice(letters, len(_FOLDED) // 2)))
    whole = _replaced("half", dict(letters))
    return [
        f"CREATE VIEW {search}_half AS SELECT input, start, token, {half} AS half"
        f" FROM {search}_tokens",
        f"CREATE VIEW {search}_split AS SELECT input, start,"
        f" CASE WHEN token GLOB '*[^a-z0-9]*' THEN {whole} ELSE token END AS word"
        f" FROM {search}_half",
    ]


def _replaced(text: str, letters: dict[str, str]) -> str:
    for letter, plain in letters.items():
        text = f"replace({text}, '{letter}', '{plain}')"
    return text


def _sqlite_add(search: str, fields: Sequence[str]) -> str:
    """Index one row; its fields are split as one text, since each call of the tokenizer costs."""
    filled = [f"coalesce(new.{field}, '')" for field in fields]
    text = _spaced(filled)
    marks = [f"'{tier}' || word" for tier in range(1, len(fields) + 1)]
    marked = " ".join(
        # A subquery is evaluated once per row, not once per word.
        f"WHEN start < (SELECT length(CAST({_spaced(filled[:tier])} AS BLOB)))"
        f" THEN {_spaced(marks[tier - 1 :])}"
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


def _spaced(texts: Sequence[str]) -> str:
    return " || ' ' || ".join(texts)


def _drop_from_sqlite(table: str, search: str) -> list[str]:
    triggers = [f"DROP TRIGGER {search}_{event}" for event in ("insert", "update", "delete")]
    views = [f"DROP VIEW {search}_{view}" for view in ("split", "half")]
    tables = [f"DROP TABLE {search}{part}" for part in ("_trigrams", "_words", "", "_tokens")]
    return [*triggers, *views, *tables]


def _create_on_postgresql(table: str, search: str, fields: Sequence[str]) -> list[str]:
    # Words of the last tier, without its digit; `:` follows `9`, so numbers are left out.
    word = "substr(lexeme, 2)"
    is_kept = f"""lexeme >= '{len(fields)}:' COLLATE "C" AND lexeme < '{len(fields) + 1}'"""
    return [
        "CREATE EXTENSION IF NOT EXISTS pg_trgm",
        _postgresql_split(search),
        # The body is parsed at creation, so that a dump can be restored whatever the search path.
        f"""CREATE FUNCTION {search}_vector({", ".join(f"{field} text" for field in fields)})
            RETURNS tsvector LANGUAGE sql IMMUTABLE PARALLEL SAFE
            RETURN ({_postgresql_marked(search, fields)})::tsvector""",
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


def _postgresql_split(search: str) -> str:
    single = {letter: plain for letter, plain in _FOLDED.items() if len(plain) == 1}
    double = {letter: plain for letter, plain in _FOLDED.items() if len(plain) > 1}
    text = _replaced("normalize(casefold(input COLLATE unicode_collation), NFD)", double)
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


def _postgresql_marked(search: str, fields: Sequence[str]) -> str:
    filled = [f"coalesce({field}, '')" for field in fields]
    return " || ".join(
        f"' {tier}' || array_to_string({search}_split({_spaced(filled[:tier])}), ' {tier}')"
        for tier in range(1, len(fields) + 1)
    )


def _drop_from_postgresql(table: str, search: str) -> list[str]:
    return [
        f"DROP TRIGGER {search}_insert ON {table}",
        f"DROP TRIGGER {search}_update ON {table}",
        f"ALTER TABLE {table} DROP COLUMN {search}",
        f"DROP TABLE {search}_words",
        *(f"DROP FUNCTION {search}_{function}" for function in ("add", "vector", "split")),
    ]
