"""Values for the templates of model, schemas, crud and endpoints."""

from collections.abc import Iterator, Sequence

from timberframe.crud import EQUALITY, RANGE
from timberframe.generator.layout import block, deeper, dict_of, join, tuple_of
from timberframe.generator.spec import Field, ResourceSpec

_AS_WHOM = {
    "owner": ", as its owner or a superuser",
    "public-read": ", as its owner or a superuser",
    "published": ", for superusers",
    "superuser": ", for superusers",
}
_POLICIES = {
    "owner": "Policy(read=owner({0}.owner_id), write=owner({0}.owner_id))",
    "public-read": "Policy(read=everybody, write=owner({0}.owner_id))",
    "published": "Policy(read=everybody, write=superusers)",
    "superuser": "Policy(read=superusers, write=superusers)",
}


def model_of(spec: ResourceSpec) -> dict[str, str]:
    model = spec.names.model
    checks = [
        f'CheckConstraint("{field.check}", name="{field.name}")'
        for field in spec.fields
        if field.check
    ]
    # The indexes for orders are made from the crud's declarations.
    columns = [
        f"{model}.{field.name}"
        for field in spec.fields
        if field.needs_index and not field.is_sortable
    ]
    columns += [f"{model}.owner_id"] if spec.has_owner else []
    indexes = [
        f"for column in ({', '.join(columns)}):",
        f"    Index(None, column, {model}.id)",
    ]
    if len(columns) == 1:
        indexes = [f"Index(None, {columns[0]}, {model}.id)"]
    if not columns:
        indexes = []
    types = {field.kind.column for field in spec.fields} - {""}
    types |= {"link_table"} if spec.lists else set()
    return {
        "of_whom": ", each owned by the user who made it" if spec.has_owner else "",
        "column_types": f"from timberframe.models import {', '.join(sorted(types))}"
        if types
        else "",
        "listed": "\n".join(
            f"from app.models.{one} import {model}" for one, model in _listed(spec).items()
        ),
        "columns": block(_columns(spec)),
        "constraints": block(["", f"__table_args__ = {tuple_of(checks)}"]) if checks else "",
        "indexes": "\n".join(indexes),
        "links": "\n".join(_links(spec)),
    }


def _listed(spec: ResourceSpec) -> dict[str, str]:
    return {field.refers_to.one: field.refers_to.model for field in spec.lists if field.refers_to}


def _links(spec: ResourceSpec) -> Iterator[str]:
    one, model = spec.names.one, spec.names.model
    if spec.lists:
        yield "# For filters and foreign keys; triggers copy the ids of each row."
    for field in spec.lists:
        if field.refers_to:
            links = spec.links_of(field).many
            ids, target = f"{model}.{field.name}", f"refers_to={field.refers_to.model}.id"
            names = f'row="{one}_id", listed="{field.listed}"'
            yield f'{links} = link_table("{links}", {ids}, {names}, {target})'


def _columns(spec: ResourceSpec) -> Iterator[str]:
    for field in spec.fields:
        options = [f'"{field.column}"'] if field.kind.suffix else []
        options += [field.kind.column] if field.kind.column else []
        if field.refers_to and not field.is_list:
            options.append(f'ForeignKey("{field.refers_to.many}.id")')
        if field.is_unique:
            options.append("unique=True")
        if field.default:
            options.append(f"server_default={field.default.sql}")
        if field.kind.python == "Any":
            options.append(f"nullable={field.is_nullable}")
        column = f" = mapped_column({', '.join(options)})" if options else ""
        yield f"{field.name}: Mapped[{python_of(field)}]{column}"
    if spec.has_owner:
        yield 'owner_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))'


def schema_of(spec: ResourceSpec) -> dict[str, str]:
    for_create, for_update, for_output = [], [], []
    choices = []
    for field in spec.fields:
        input_, output = field.kind.input, field.kind.python
        if field.choices:
            input_ = output = f"{spec.names.model}{field.name.title().replace('_', '')}"
            choices.append(f"{output} = Literal[{', '.join(map(repr, field.choices))}]")
        null = " | None" if field.is_nullable else ""
        absent = " = None" if null else f" = {field.default.python}" if field.default else ""
        for_create.append(f"{field.name}: {input_}{null}{absent}")
        for_update.append(f"{field.name}: {input_}{null} | MISSING = MISSING")
        example = field.kind.sample or "1"
        about = f'description="{_description(spec, field)}", examples=[{example}]'
        output = "Any" if output == "Any" else f"{output}{null}"
        for_output.append(f"{field.name}: {output} = Field({about})")
    if spec.has_owner:
        about = 'description="The `id` of the user who created it", examples=[1]'
        for_output.append(f"owner_id: int = Field({about})")
    return {
        "inputs": _further({field.kind.input for field in spec.fields} - {"bool", ""}),
        "choices": "\n".join(choices),
        "for_create": block(for_create),
        "for_update": block(for_update),
        "for_output": block(for_output),
    }


def _description(spec: ResourceSpec, field: Field) -> str:
    """A correct description to start from; the owner of the code knows what the field is for."""
    if field.refers_to and field.is_list:
        return f"The `id` of each {field.refers_to.words}, in ascending order"
    if field.refers_to:
        return f"The `id` of the {field.refers_to.words}"
    words = field.name.replace("_", " ")
    if field.kind.python == "bool":
        return f"Whether the {spec.names.words} is {words.removeprefix('is ')}"
    if words.endswith((" at", " on")):
        return f"When it was {words[:-3]}"
    return f"The {words} of the {spec.names.words}"


def crud_of(spec: ResourceSpec) -> dict[str, str]:
    model = spec.names.model
    targets = {f.refers_to.one for f in spec.fields if f.refers_to}
    references = [f"{model}.{f.name}: {f.refers_to.one}_crud" for f in spec.fields if f.refers_to]
    filters = [
        f"{model}.{field.name}: {_operators(field.operators)},"
        for field in spec.fields
        if field.operators
    ]
    if spec.has_owner:
        filters.append(f"{model}.owner_id: EQUALITY,")
    filters += [f"{model}.{name}: RANGE," for name in ("created_at", "updated_at")]
    sortable = [field.name for field in spec.fields if field.is_sortable]
    key = spec.natural_key
    sorted_by = [f"{model}.{name}" for name in (*sortable, "created_at", "updated_at")]
    return {
        "policy": _POLICIES[spec.policy].format(model),
        "crud_imports": "\n".join(f"from app.crud.{one} import {one}_crud" for one in targets),
        "links": "\n".join(
            f"from app.models.{spec.names.one} import {spec.links_of(field).many}"
            for field in spec.lists
        ),
        "declarations": block(
            [
                *([f"references = {{{', '.join(references)}}}"] if references else []),
                "filters = {",
                *deeper(filters),
                "}",
                *_listing(spec),
                *_searched(spec),
                *([f'natural_key = "{key.name}"'] if spec.has_bulk and key else []),
                *(["events = True"] if spec.has_events else []),
                f"sorted_by = {tuple_of(sorted_by)}",
            ]
        ),
    }


def _listing(spec: ResourceSpec) -> list[str]:
    """Filters by the rows that are listed."""
    model, meaning = spec.names.model, '"Rows that have all of these, each sent by itself"'
    filters = []
    for field in spec.lists:
        links = f"{spec.links_of(field).many}.c"
        columns = (f"{links}.{field.listed}", f"{links}.{spec.names.one}_id", f"{model}.id")
        of = join(f'"{field.listed}"', meaning, "list[QueryId]", *columns)
        filters.append(f"HasAll({of})")
    return [f"further_filters = {tuple_of(filters)}"] if filters else []


def _searched(spec: ResourceSpec) -> list[str]:
    model = spec.names.model
    fields = [f"{model}.{field.name}" for field in spec.fields if field.is_searched]
    return [f"search = Search({join(model, *fields)})"] if fields else []


def _operators(names: Sequence[str]) -> str:
    for ready, text in ((EQUALITY, "EQUALITY"), (RANGE, "RANGE")):
        if names[: len(ready)] == ready:
            rest = "".join(f', "{name}"' for name in names[len(ready) :])
            return f"(*{text}{rest})" if rest else text
    return tuple_of(f'"{name}"' for name in names)


def endpoints_of(spec: ResourceSpec) -> dict[str, str]:
    one, model = spec.names.one, spec.names.model
    refused = ["NotPermitted"] if spec.policy == "superuser" else []
    forbidden = ["NotPermitted"] if spec.policy != "owner" else []
    taken = ["AlreadyExists"] if spec.unique_fields else []
    gone = ["Conflict"] if spec.references else []
    is_public = spec.policy in ("public-read", "published")
    not_for_all = [] if spec.has_owner else ["NotPermitted"]
    viewer = "viewer" if is_public else "current_user"
    output = f"response_model=schemas.{model}"
    created = "status_code=status.HTTP_201_CREATED"
    deleted = "status_code=status.HTTP_204_NO_CONTENT"
    path = f'"/{{{one}_id:id}}"'
    update_problems = _problems(*taken, *forbidden, "NotFound", *gone)
    seen_by = ["viewer=current_user"] if spec.references else []
    owned_by = ["owner_id=creator.id"] if spec.has_owner else []
    as_whom, a_words = _AS_WHOM[spec.policy], spec.names.a_words
    # Without it an anonymous caller would get 404 for somebody else's row, not 401.
    signed_in = ["dependencies=[Depends(get_current_user)]"] if spec.policy == "owner" else []
    guard = ["dependencies=[superuser_only]"] if refused else []
    responses = "{**EVENT_RESPONSES, **problems(NotPermitted)}" if refused else "EVENT_RESPONSES"
    event_options = join('"/events"', *signed_in, f"responses={responses}")
    return {
        "router_options": join(*guard),
        "viewer": f"{viewer}: {'OptionalUser' if is_public else 'CurrentUser'}",
        "viewer_name": viewer,
        "list_options": join('"/"', f"{output}List", _problems(*refused)),
        "list_text": _list_text(spec),
        "events": _events(spec),
        "follow": _follow(spec, event_options),
        "create_options": join('"/"', output, created, _problems(*taken, *not_for_all, *gone)),
        "create_text": f"Create {a_words}{', owned by the caller' if spec.has_owner else as_whom}.",
        "create_arguments": join("db", f"obj_in={one}_in", "viewer=creator", *owned_by),
        "read_options": join(path, output, *signed_in, _problems(*refused, "NotFound")),
        "Writable": f"Own{model}" if spec.has_owner else f"{model}ToChange",
        "read_text": f"Read {a_words}{'' if is_public else as_whom}.",
        "update_options": join(path, output, update_problems),
        "updater": ", current_user: CurrentUser" if seen_by else "",
        "update_text": f"Change any part of {a_words}{as_whom}.",
        "update_arguments": join("db", f"db_obj={one}", f"obj_in={one}_in", *seen_by),
        "delete_options": join(path, deleted, _problems(*forbidden, "NotFound")),
        "delete_text": f"Delete {a_words}{as_whom}.",
    }


def _events(spec: ResourceSpec) -> str:
    if not spec.has_events:
        return ""
    one, model = spec.names.one, spec.names.model
    return f"{model}Events = Annotated[EventStream, Depends(followed({one}_crud))]"


def _follow(spec: ResourceSpec, options: str) -> str:
    if not spec.has_events:
        return ""
    return f'''
@router.get({options})
async def follow_{spec.names.many}(events: {spec.names.model}Events) -> EventStream:
    """{_list_text(spec, " as server-sent events")}"""
    return events
'''


def bulk_of(spec: ResourceSpec) -> dict[str, str]:
    guards = {"owner": ["dependencies=[Depends(get_current_user)]"]}
    guards["superuser"] = ["dependencies=[superuser_only]"]
    responses = "EXPORT_RESPONSES"
    if spec.policy == "superuser":
        responses = "{**EXPORT_RESPONSES, **problems(NotPermitted)}"
    options = ('"/export"', "response_class=Download", f"responses={responses}")
    # Otherwise others would be told of what they sent before they are told that they may not.
    import_guard = ["dependencies=[superuser_only]"] if spec.policy == "published" else []
    key = spec.natural_key
    return {
        "import_options": join(*import_guard, "responses=IMPORT_RESPONSES"),
        "router_options": join("route_class=LineRoute", *guards.get(spec.policy, [])),
        "demo": dict_of(_demo_values(spec)),
        "Many": spec.names.many.title().replace("_", ""),
        "owner": f", owner={spec.names.model}.owner_id" if spec.has_owner else "",
        "of_the_caller": " of the caller" if spec.has_owner else "",
        "key": key.name if key else "",
        "export_options": join(*options, "status_code=status.HTTP_200_OK"),
    }


def _demo_values(spec: ResourceSpec) -> dict[str, str]:
    """Of a row with a `number`; references are left out."""
    return {
        field.name: field.kind.new
        if field.is_unique
        else f"({field.kind.sample}, {field.kind.other})[number % 2]"
        for field in spec.plain_fields
    }


def _list_text(spec: ResourceSpec, how: str = "") -> str:
    verb, many = "Follow" if how else "List", spec.names.many_words
    if spec.policy == "owner":
        return f"{verb} one's own {many}{how}; all of them as a superuser."
    return f"{verb} {many}{how}{', for superusers' if spec.policy == 'superuser' else ''}."


def _problems(*errors: str) -> str:
    return f"responses=problems({', '.join(errors)})" if errors else ""


def _further(names: set[str]) -> str:
    """Names to add to an import; only those needed, since the resource may use the others."""
    return "".join(f", {name}" for name in sorted(names))


def python_of(field: Field) -> str:
    if field.kind.python == "Any":
        return "Any"
    return field.kind.python + (" | None" if field.is_nullable else "")
