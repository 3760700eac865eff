"""Parses and checks the arguments: `order number:str:unique amount:money --policy owner`."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import NoReturn

from timberframe.errors import CommandError
from timberframe.generator.kinds import KINDS, NOTHING_LISTED, Default, Kind, read_default
from timberframe.generator.names import (
    Names,
    in_words,
    plural_of,
    singular_of,
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
    choices: tuple[str, ...] = ()
    default: Default | None = None

    @property
    def is_list(self) -> bool:
        """Whether it refers to any number of rows, in a table of links."""
        return self.kind is KINDS["refs"]

    @property
    def listed(self) -> str:
        """The name of one id of a list: a column of the table of links, and a filter."""
        return self.name.removesuffix("s")

    @property
    def is_required(self) -> bool:
        """Whether a row cannot be created without it."""
        return not (self.is_nullable or self.default)

    @property
    def check(self) -> str | None:
        """The condition that the database holds each of its values to."""
        if self.choices:
            return f"{self.column} IN ({', '.join(map(repr, self.choices))})"
        if self.kind.column == "Money":
            return f"{self.column} BETWEEN 0 AND 999999999999"
        return None

    @property
    def column(self) -> str:
        """Its name in the database."""
        return self.name + self.kind.suffix

    @property
    def is_sortable(self) -> bool:
        return self.kind.is_sortable and not self.is_nullable

    @property
    def needs_index(self) -> bool:
        """Whether it needs an index together with the id; a unique field has one by itself."""
        is_reference = self.refers_to is not None and not self.is_list
        is_wanted = self.is_sortable or self.is_indexed or is_reference
        return is_wanted and not self.is_unique

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
    has_bulk: bool = False  # import and export
    has_seed: bool = False  # a command that makes demo rows
    has_events: bool = False  # of its changes, and a route to follow them

    @property
    def has_owner(self) -> bool:
        return self.policy not in WITHOUT_OWNER

    @property
    def references(self) -> tuple[Field, ...]:
        return tuple(field for field in self.fields if field.refers_to)

    @property
    def lists(self) -> tuple[Field, ...]:
        return tuple(field for field in self.fields if field.is_list)

    def links_of(self, field: Field) -> Names:
        """The names of a row of the table of links, and of the table."""
        one = f"{self.names.one}_{field.listed.removesuffix('_id')}"
        return Names(one, plural_of(one))

    @property
    def plain_fields(self) -> tuple[Field, ...]:
        return tuple(field for field in self.fields if not field.refers_to)

    @property
    def natural_key(self) -> Field | None:
        """The field by which an import finds the row that it updates."""
        return next(
            (f for f in self.unique_fields if f.is_required and f.kind.python in ("str", "int")),
            None,
        )

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
    has_bulk: bool = False,
    has_seed: bool = False,
    has_events: bool = False,
) -> ResourceSpec:
    """`models` are those that a field may refer to, by name."""
    if policy not in POLICIES:
        _refuse("policy", policy, nearest(policy, POLICIES))
    names = read_names(name, plural)
    if not specifications:
        raise CannotGenerate(f"{name}: a resource needs a field, such as title:str")
    fields = tuple(read_field(text, models) for text in specifications)
    options = [f"--policy={policy}", *([f"--plural={plural}"] if plural else [])]
    switches = {"--bulk": has_bulk, "--seed": has_seed, "--events": has_events}
    options += [option for option, is_on in switches.items() if is_on]
    arguments = (name, *specifications, *options)
    return _checked(ResourceSpec(names, fields, policy, arguments, has_bulk, has_seed, has_events))


def read_names(name: str, plural: str | None) -> Names:
    if reason := why_not_a_resource(name):
        instead = in_words(name)
        if why_not_a_resource(instead):
            instead = f"{instead}_item"
        hint = f"; try: {instead}" if not why_not_a_resource(instead) else ""
        raise CannotGenerate(f"{name}: the name of a resource {reason}{hint}")
    if not plural and (one := singular_of(name)):
        raise CannotGenerate(f"{name}: is a plural; try: {one}, or --plural if it is none")
    many = plural or plural_of(name)
    if reason := why_not_a_resource(many):
        raise CannotGenerate(f"{many}: the plural {reason}; --plural sets another")
    if many == name:
        raise CannotGenerate(f"{name}: --plural must differ from the name, such as {name}_list")
    return Names(name, many)


def with_field(spec: ResourceSpec, text: str, models: Mapping[str, Target]) -> ResourceSpec:
    """The resource with one more field."""
    field = read_field(text, models)
    if field.is_list:
        raise CannotGenerate(f"{field.name}: a list of references comes with its resource alone")
    if field.refers_to and field.refers_to.one == spec.names.one:
        raise CannotGenerate(f"{field.name}: a {spec.names.one} cannot refer to another one")
    return _checked(replace(spec, fields=(*spec.fields, field)))


def without_field(spec: ResourceSpec, name: str) -> ResourceSpec:
    dropped = field_of(spec, name)
    if dropped.is_list:
        raise CannotGenerate(f"{dropped.name}: a list of references goes with its resource alone")
    fields = tuple(field for field in spec.fields if field is not dropped)
    if not fields:
        one = spec.names.one
        raise CannotGenerate(f"{name}: is the only field of {one}; try: destroy resource {one}")
    return _checked(replace(spec, fields=fields))


def field_of(spec: ResourceSpec, name: str) -> Field:
    """The field that goes by this name, a reference with or without its `_id` or `_ids`."""
    known = {field.name: field for field in spec.fields}
    names = (name, f"{name}_id", _name_of_list(name))
    if found := next((known[each] for each in names if each in known), None):
        return found
    one = spec.names.one
    raise CannotGenerate(f"{name}: was not generated for {one}; try: {nearest(name, known)}")


def read_field(text: str, models: Mapping[str, Target]) -> Field:
    """`note:text?`, `number:str:unique`, `pages:int=0`, `customer:ref:user`, `size:enum:s,m,l`,
    `tags:refs:tag`.
    """
    name, *parts = text.split(":")
    if not parts or not all(parts) or len(text.split()) > 1:
        raise CannotGenerate(f"{text}: a field is name:type, such as {name or 'title'}:str")
    _check_field_name(name)
    type_name, is_nullable, default = _take_apart(parts[0])
    kind = KINDS.get(type_name) or _refuse(f"{name}: type", type_name, nearest(type_name, KINDS))
    refers_to, choices = None, tuple[str, ...]()
    if type_name in ("ref", "refs", "enum"):
        argument, is_also_nullable, its_default = _take_apart(parts[1] if parts[1:] else "")
        is_nullable, default = is_nullable or is_also_nullable, default or its_default
        if type_name == "ref":
            refers_to = _read_target(name, argument, models)
            name = f"{name}_id"
            _check_field_name(name)
        elif type_name == "refs":
            refers_to = _read_target(name, argument, models, is_list=True)
            if is_nullable or default is not None:
                raise CannotGenerate(
                    f"{name}: refs are empty, never null; try: {name}:refs:{argument}"
                )
            name = _name_of_list(name)
            _check_field_name(name)
        else:
            choices = _read_choices(name, argument)
            kind = replace(kind, sample=f'"{choices[0]}"', other=f'"{choices[1]}"')
        parts = parts[1:]
    options = parts[1:]
    for option in options:
        if option not in OPTIONS:
            _refuse(f"{name}: option", option, nearest(option, OPTIONS))
    _check_options(name, type_name, kind, options)
    if refers_to and refers_to.is_user and "unique" in options:
        raise CannotGenerate(f"{name}: a ref to user cannot be unique; owner_id says whose it is")
    field = Field(
        name,
        kind,
        is_nullable=is_nullable,
        is_unique="unique" in options,
        is_indexed="index" in options,
        is_searched="search" in options,
        refers_to=refers_to,
        choices=choices,
        default=NOTHING_LISTED if type_name == "refs" else None,
    )
    return field if default is None else replace(field, default=_read_default(field, default))


def _take_apart(text: str) -> tuple[str, bool, str | None]:
    """`int?` or `int=0`: the word, whether it is nullable, and the default."""
    word, equals, default = text.partition("=")
    return word.removesuffix("?"), word.endswith("?"), default if equals else None


def _read_default(field: Field, text: str) -> Default:
    name, kind = field.name, field.kind
    if field.is_nullable or field.is_unique:
        other = "nullable" if field.is_nullable else "unique"
        raise CannotGenerate(f"{name}: a {other} field has no default; leave out ={text}")
    if field.choices:
        if text not in field.choices:
            _refuse(f"{name}: default", text, nearest(text, field.choices))
        return Default(*[f'"{text}"'] * 3)
    if not kind.default:
        able = ", ".join(known for known in KINDS if KINDS[known].default)
        raise CannotGenerate(f"{name}: only {able} and enum have a default; leave out ={text}")
    if default := read_default(kind, text):
        return default
    raise CannotGenerate(f"{name}: cannot be {text!r}; try: ={kind.default}")


def _read_choices(name: str, text: str) -> tuple[str, ...]:
    choices = tuple(text.split(","))
    if len(choices) < 2 or len(set(choices)) < len(choices):
        raise CannotGenerate(f"{name}: an enum needs its values; try: {name}:enum:draft,paid")
    if wrong := next((c for c in choices if not re.fullmatch("[a-z0-9]+([_-][a-z0-9]+)*", c)), ""):
        raise CannotGenerate(f"{name}: {wrong!r} is no value; try words of lower-case letters")
    return choices


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


def _name_of_list(name: str) -> str:
    return f"{singular_of(name) or name}_ids"


def _read_target(
    name: str, target: str, models: Mapping[str, Target], *, is_list: bool = False
) -> Target:
    type_name, ending = ("refs", "_ids") if is_list else ("ref", "_id")
    if name.endswith(ending):
        gets = f"refs get their {ending}" if is_list else f"a ref gets its {ending}"
        instead = plural_of(name[:-4]) if is_list else name[:-3]
        raise CannotGenerate(f"{name}: {gets} automatically; try: {instead}:{type_name}")
    if not target:
        needs = "refs need" if is_list else "a ref needs"
        instead = nearest(name, models).split(",")[0]
        raise CannotGenerate(f"{name}: {needs} a resource; try: {name}:{type_name}:{instead}")
    return models.get(target) or _refuse(f"{name}: resource", target, nearest(target, models))


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


def _checked(spec: ResourceSpec) -> ResourceSpec:
    _check_together(spec.fields)
    _check_readers(spec.fields, spec.policy)
    if spec.has_bulk:
        one = spec.names.one
        if not spec.natural_key:
            why = "--bulk needs a unique field, by which an import finds rows"
            raise CannotGenerate(f"{one}: {why}; try: number:str:unique")
        if listing := next((f.name for f in spec.lists), None):
            raise CannotGenerate(f"{listing}: refs cannot be imported; leave out --bulk")
        if document := next((f.name for f in spec.fields if f.kind.python == "Any"), None):
            raise CannotGenerate(f"{document}: json cannot be imported; leave out --bulk")
    if spec.has_seed:
        if not spec.has_bulk:
            raise CannotGenerate(f"{spec.names.one}: --seed imports demo rows; add --bulk")
        if reference := next((f.name for f in spec.references if f.is_required), None):
            why = "demo rows cannot refer to others"
            raise CannotGenerate(f"{reference}: {why}; make it nullable or leave out --seed")
    return spec


def _check_together(fields: Sequence[Field]) -> None:
    known: dict[str, Field] = {}
    for field in fields:
        names = {field.name, field.column, *([field.listed] if field.is_list else [])}
        for name in names:
            if name in known:
                twin = known[name].name
                why = "given twice" if twin == field.name else f"already the column of {twin}"
                raise CannotGenerate(f"{field.name}: {name} is {why}; leave one out")
        known |= dict.fromkeys(names, field)


def _check_readers(fields: Sequence[Field], policy: str) -> None:
    for field in fields:
        if field.refers_to and field.refers_to.is_for_superusers and policy not in WITHOUT_OWNER:
            one = field.refers_to.one
            why = f"only superusers may read a {one}, so only they could refer to one"
            raise CannotGenerate(f"{field.name}: {why}; try: --policy superuser")
