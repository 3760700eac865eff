"""What was generated, as the docstrings of the migrations tell."""

from timberframe.generator.checkout import (
    DESTROY_FIELD,
    DESTROY_RESOURCE,
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
    generated = {}
    for migration in checkout.history():
        if migration.command == GENERATE_RESOURCE:
            generated[migration.arguments[0]] = migration
        elif migration.command == DESTROY_RESOURCE:
            generated.pop(migration.arguments[0], None)
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
        has_events="--events" in options,
    )
    history = checkout.history()
    revisions = [migration.revision for migration in history]
    for migration in history[revisions.index(created.revision) :]:
        match migration.command, migration.arguments:
            case (str(command), [one, field]) if one == name:
                if command == GENERATE_FIELD:
                    spec = with_field(spec, field, models)
                elif command == DESTROY_FIELD:
                    spec = without_field(spec, field)
    return spec
