"""Parses and checks the arguments: `order number:str:unique amount:money --policy owner`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import NoReturn

from timberframe.errors import CommandError
from timberframe.generator.kinds import KINDS, Kind
from timberframe.generator.names import (
    Names,
    in_words,
    plural_of,
    why_not_a_field,
    why_not_a_resource,
)

POLICIES = ("public-read", "owner", "published", "superuser")
WITHOUT_OWNER = ("published", "superuser")  # superusers write all rows
OPTIONS = ("unique", "index", "search")


class CannotGenerate(CommandError):
    """The arguments or the checkout do not allow it; nothing was written."""

    code = "cannot_generate"


@dataclass(frozen=True)
class Target(Names):
    """A resource that a field may refer to."""

    is_user: bool = False  # whom the tests need not create
    is_hidden: bool = False  # from all but its owner
    is_for_superusers: bool = False


@dataclass(frozen=True)
class Field:
    name: str
    kind: Kind
    is_nullable: bool = False
    is_unique: bool = False
    is_indexed: bool = False
    is_searched: bool = False
    refers_to: Target | None = None

    @property
    def column(self) -> str:
        """Its name in the database."""
        return self.name + self.kind.suffix

    @property
    def is_sortable(self) -> bool:
        return self.kind.is_sortable and not self.is_nullable

    @property
    def operators(self) -> tuple[str, ...]:
        return (*self.kind.operators, "isnull") if self.is_nullable else self.kind.operators


@dataclass(frozen=True)
class ResourceSpec:
    """The description of a resource to generate, checked."""

    names: Names
    fields: tuple[Field, ...]
    policy: str
    arguments: tuple[str, ...]

    @property
    def has_owner(self) -> bool:
        return self.policy not in WITHOUT_OWNER

    @property
    def references(self) -> tuple[Field, ...]:
        return tuple(field for field in self.fields if field.refers_to)

    @property
    def plain_fields(self) -> tuple[Field, ...]:
        return tuple(field for field in self.fields if not field.refers_to)

    @property
    def unique_fields(self) -> tuple[Field, ...]:
        return tuple(field for field in self.fields if field.is_unique)


def read_spec(
    name: str,
    specifications: Sequence[str],
    *,
    policy: str,
    plural: str | None,
    models: Mapping[str, Target],
) -> ResourceSpec:
    """`models` are those that a field may refer to, by name."""
    if policy not in POLICIES:
        _refuse("policy", policy, nearest(policy, POLICIES))
    names = read_names(name, plural)
    if not specifications:
        raise CannotGenerate(f"{name}: a resource needs a field, such as title:str")
    fields = tuple(read_field(text, models) for text in specifications)
    _check_together(fields)
    _check_readers(fields, policy)
    options = [f"--policy={policy}", *([f"--plural={plural}"] if plural else [])]
    return ResourceSpec(names, fields, policy, (name, *specifications, *options))


def read_names(name: str, plural: str | None) -> Names:
    if reason := why_not_a_resource(name):
        instead = in_words(name)
        if why_not_a_resource(instead):
            instead = f"{instead}_item"
        hint = f"; try: {instead}" if not why_not_a_resource(instead) else ""
        raise CannotGenerate(f"{name}: the name of a resource {reason}{hint}")
    many = plural or plural_of(name)
    if reason := why_not_a_resource(many):
        raise CannotGenerate(f"{many}: the plural {reason}; --plural sets another")
    if many == name:
        raise CannotGenerate(f"{name}: --plural must differ from the name, such as {name}_list")
    return Names(name, many)


def read_field(text: str, models: Mapping[str, Target]) -> Field:
    """`note:text?`, `number:str:unique`, `customer:ref:user`."""
    name, *parts = text.split(":")
    if not parts or not all(parts):
        raise CannotGenerate(f"{text}: a field is name:type, such as {name or 'title'}:str")
    _check_field_name(name)
    type_name, *parts = parts
    is_nullable = type_name.endswith("?")
    type_name = type_name.removesuffix("?")
    kind = KINDS.get(type_name) or _refuse(f"{name}: type", type_name, nearest(type_name, KINDS))
    refers_to = None
    if type_name == "ref":
        refers_to, is_also_nullable = _read_target(name, parts, models)
        is_nullable |= is_also_nullable
        name, parts = f"{name}_id", parts[1:]
        _check_field_name(name)
    for option in parts:
        if option not in OPTIONS:
            _refuse(f"{name}: option", option, nearest(option, OPTIONS))
    _check_options(name, type_name, kind, parts)
    if refers_to and refers_to.is_user and "unique" in parts:
        raise CannotGenerate(f"{name}: a ref to user cannot be unique; owner_id says whose it is")
    return Field(
        name,
        kind,
        is_nullable=is_nullable,
        is_unique="unique" in parts,
        is_indexed="index" in parts,
        is_searched="search" in parts,
        refers_to=refers_to,
    )


def _check_field_name(name: str) -> None:
    if reason := why_not_a_field(name):
        instead = in_words(name)
        if why_not_a_field(instead):
            instead = f"own_{instead}"
        hint = f"; try: {instead}" if not why_not_a_field(instead) else ""
        raise CannotGenerate(f"{name}: the name of a field {reason}{hint}")


def nearest(word: str, known: Sequence[str] | Mapping[str, object]) -> str:
    """The known word that was probably meant, or all of them."""
    some = get_close_matches(word.lower(), list(known), n=1, cutoff=0.5)
    return some[0] if some else ", ".join(known)


def _refuse(what: str, word: str, instead: str) -> NoReturn:
    raise CannotGenerate(f"{what} {word!r} is not known; try: {instead}")


def _read_target(
    name: str, parts: Sequence[str], models: Mapping[str, Target]
) -> tuple[Target, bool]:
    if name.endswith("_id"):
        raise CannotGenerate(f"{name}: a ref gets its _id automatically; try: {name[:-3]}:ref")
    if not parts:
        target = nearest(name, models).split(",")[0]
        raise CannotGenerate(f"{name}: a ref needs a resource; try: {name}:ref:{target}")
    target = parts[0].removesuffix("?")
    if target not in models:
        _refuse(f"{name}: resource", target, nearest(target, models))
    return models[target], parts[0].endswith("?")


def _check_options(name: str, type_name: str, kind: Kind, options: Sequence[str]) -> None:
    if len(set(options)) < len(options):
        raise CannotGenerate(f"{name}: an option is given twice")
    if "unique" in options and not kind.new:
        raise CannotGenerate(f"{name}: {type_name} cannot be unique; str can")
    if "index" in options and not kind.may_be_indexed:
        raise CannotGenerate(f"{name}: {type_name} cannot be indexed; str can")
    if "search" in options and not kind.may_be_searched:
        raise CannotGenerate(f"{name}: {type_name} cannot be searched; str and text can")
    if {"unique", "index"} <= set(options):
        raise CannotGenerate(f"{name}: a unique field has an index anyway; leave out :index")


def _check_together(fields: Sequence[Field]) -> None:
    known: dict[str, Field] = {}
    for field in fields:
        for name in {field.name, field.column}:
            if name in known:
                twin = known[name].name
                why = "given twice" if twin == field.name else f"already the column of {twin}"
                raise CannotGenerate(f"{field.name}: {name} is {why}; leave one out")
        known |= {field.name: field, field.column: field}


def _check_readers(fields: Sequence[Field], policy: str) -> None:
    for field in fields:
        if field.refers_to and field.refers_to.is_for_superusers and policy not in WITHOUT_OWNER:
            one = field.refers_to.one
            why = f"only superusers may read a {one}, so only they could refer to one"
            raise CannotGenerate(f"{field.name}: {why}; try: --policy superuser")
