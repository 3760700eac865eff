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
    if re.search("([sxz]|[cs]h)$", name):
        return f"{name}es"
    if re.search("[^aeiou]y$", name):
        return f"{name[:-1]}ies"
    return f"{name}s"


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
