"""What was generated, as the docstrings of the migrations tell."""

from timberframe.generator.checkout import (
    DESTROY_FIELD,
    GENERATE_FIELD,
    GENERATE_RESOURCE,
    Checkout,
    Migration,
)
from timberframe.generator.spec import (
    CannotGenerate,
    ResourceSpec,
    nearest,
    read_spec,
    with_field,
    without_field,
)


def migration_of(checkout: Checkout, name: str) -> Migration:
    """The migration that creates the resource's table."""
    generated = {
        migration.arguments[0]: migration
        for migration in checkout.history()
        if migration.command == GENERATE_RESOURCE
    }
    if name not in generated:
        known = f"try: {nearest(name, generated)}" if generated else "no resource was"
        raise CannotGenerate(f"{name}: was not generated; {known}")
    return generated[name]


def spec_of(checkout: Checkout, name: str) -> ResourceSpec:
    """The resource as it was generated, with the fields that were added and dropped since."""
    created, models = migration_of(checkout, name), checkout.targets()
    _, *rest = created.arguments
    options = dict(argument.partition("=")[::2] for argument in rest if argument.startswith("--"))
    spec = read_spec(
        name,
        [argument for argument in rest if not argument.startswith("--")],
        policy=options["--policy"],
        plural=options.get("--plural"),
        models=models,
        has_bulk="--bulk" in options,
        has_seed="--seed" in options,
    )
    for migration in checkout.history():
        match migration.command, migration.arguments:
            case (str(command), [one, field]) if one == name:
                if command == GENERATE_FIELD:
                    spec = with_field(spec, field, models)
                elif command == DESTROY_FIELD:
                    spec = without_field(spec, field)
    return spec


def check_newest(checkout: Checkout, name: str, migration: Migration) -> None:
    """Raise `CannotGenerate` unless the migration is the last one."""
    for other in checkout.history():
        if migration.revision in other.down_revisions:
            raise CannotGenerate(f"{name}: {other.path.name} depends on it; {_first(checkout)}")


def _first(checkout: Checkout) -> str:
    """What undoes the newest migration."""
    newest = checkout.history()[-1]
    one, *fields = [argument.partition(":")[0] for argument in newest.arguments] or [""]
    match newest.command:
        case "generate resource":
            return f"first: {checkout.project.name} destroy resource {one}"
        case "generate field":
            return f"first: {checkout.project.name} destroy field {one} {fields[0]}"
    return f"remove {newest.path.name} first"
