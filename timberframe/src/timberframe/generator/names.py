"""Names that are derived from a resource's name, and names that cannot be used."""

import builtins
import keyword
import re
from dataclasses import dataclass

from pydantic import BaseModel
from sqlalchemy.orm import DeclarativeBase

_SEARCH = "must not contain search, which marks the tables of full-text search"
WORDS = re.compile("[a-z]+(_[a-z]+)*")
MAX_NAME = 30  # longer ones exceed PostgreSQL's 63 bytes for an identifier, and lines of 100

# Columns that every resource has, or may have one day, and the parameters of lists.
_COLUMNS = {"id", "version", "created_at", "updated_at", "deleted_at", "owner_id"}
_PARAMETERS = {"skip", "limit", "cursor", "total", "sort", "q", "is_deleted"}
# A field of that name would shadow the type in the annotations of its class.
_ANNOTATIONS = {"str", "int", "bool", "date", "datetime"}
_TAKEN = {
    **dict.fromkeys(
        ("self", "cls", "viewer", "db", "obj_in", "mapped_column"), "the code uses it itself"
    ),
    **dict.fromkeys(("registry", "metadata", "type_annotation_map"), "SQLAlchemy uses it itself"),
    **dict.fromkeys(_COLUMNS, "the project has a column of that name"),
    **dict.fromkeys(_PARAMETERS, "lists have a parameter of that name"),
    **dict.fromkeys(_ANNOTATIONS, "it is a type in the same class"),
}

_IRREGULAR = {
    "person": "people",
    "man": "men",
    "woman": "women",
    "child": "children",
    "foot": "feet",
    "tooth": "teeth",
    "mouse": "mice",
    "quiz": "quizzes",
    "criterion": "criteria",
    "medium": "media",
    "hero": "heroes",
    "potato": "potatoes",
    "tomato": "tomatoes",
    "echo": "echoes",
    "movie": "movies",
    "cookie": "cookies",
    "cache": "caches",
    "axis": "axes",
}
_UNCOUNTABLE = {"equipment", "feedback", "information", "news", "series", "species"}
_LIKE_PLURALS = {"atlas", "bias", "canvas", "gas", "lens"}
# The first that fits.
_ENDINGS = (
    ("(l|ea|oa|thie)f$", r"\1ves"),
    ("([nlw]i)fe$", r"\1ves"),
    ("sis$", "ses"),
    ("([^aeiou]|qu)y$", r"\1ies"),
    ("([sxz]|[cs]h)$", r"\1es"),
    ("$", "s"),
)


@dataclass(frozen=True)
class Names:
    """`order_line` and `order_lines`, and the forms derived from them."""

    one: str
    many: str

    @property
    def model(self) -> str:
        return self.one.title().replace("_", "")

    @property
    def path(self) -> str:
        return self.many.replace("_", "-")

    @property
    def words(self) -> str:
        return self.one.replace("_", " ")

    @property
    def many_words(self) -> str:
        return self.many.replace("_", " ")

    @property
    def a_words(self) -> str:
        return f"{'an' if self.one[0] in 'aeiou' else 'a'} {self.words}"


def plural_of(name: str) -> str:
    """Of the last word: `sales_person` gives `sales_people`. Some have none: `equipment`."""
    before, underscore, word = name.rpartition("_")
    if word in _UNCOUNTABLE:
        return name
    if not (many := _IRREGULAR.get(word)):
        many = next(
            re.sub(pattern, ending, word)
            for pattern, ending in _ENDINGS
            if re.search(pattern, word)
        )
    return f"{before}{underscore}{many}"


def singular_of(name: str) -> str | None:
    """What `name` is the plural of, if it is certain enough to be one."""
    before, underscore, word = name.rpartition("_")
    if word in _UNCOUNTABLE or word in _LIKE_PLURALS or re.search("(ss|us|is)$", word):
        return None
    known = [one for one, many in _IRREGULAR.items() if many == word]
    guesses = [f"{word[:-3]}y", f"{word[:-3]}f", f"{word[:-3]}fe", word[:-2], word[:-1]]
    found = [one for one in guesses if len(one) > 1 and plural_of(one) == word]
    return next((f"{before}{underscore}{one}" for one in (*known, *found)), None)


def in_words(name: str) -> str:
    """`OrderLine` or `order-line` as `order_line`."""
    parted = re.sub("(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return re.sub("[^a-z0-9]+", "_", parted.lower()).strip("_")


def why_not_a_resource(name: str) -> str | None:
    if not re.search("[a-z]{2}", name):
        return "must have a word of two letters or more"
    if not WORDS.fullmatch(name):
        return "must be lower-case words joined by _, such as order or order_line"
    if len(name) > MAX_NAME:
        return f"is longer than {MAX_NAME} letters"
    if keyword.iskeyword(name) or keyword.iskeyword(name.title()):
        return "is a keyword of Python"
    if "search" in name:
        return _SEARCH
    if {name, name.title().replace("_", "")} & set(dir(builtins)):
        return "is a builtin of Python"
    return None


def why_not_a_field(name: str) -> str | None:
    if "__" in name:
        return "must not have __, which separates a filter from its operator"
    if not re.fullmatch("[a-z][a-z0-9]*(_[a-z0-9]+)*", name):
        return "must be lower-case words joined by _, such as issued_on"
    if len(name) > MAX_NAME:
        return f"is longer than {MAX_NAME} letters"
    if "search" in name:
        return _SEARCH
    if keyword.iskeyword(name):
        return "is a keyword of Python"
    if reason := _TAKEN.get(name):
        return f"is reserved: {reason}"
    if name.startswith("model_") or hasattr(BaseModel, name):
        return "is reserved: Pydantic uses it itself"
    if hasattr(DeclarativeBase, name):
        return "is reserved: SQLAlchemy uses it itself"
    return None
