"""The commands that every project has; a project adds its own."""

import asyncio
import atexit
import gc
import getpass
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args

import structlog
import typer
from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError
from typer.core import TyperGroup
from typer.exceptions import TyperException

from timberframe.bulk.cells import DecimalMark
from timberframe.bulk.files import Delimiter, Format
from timberframe.commands.arguments import add_developer_commands
from timberframe.commands.loading import command_name, load
from timberframe.errors import AlreadyExists, AppError, Unavailable
from timberframe.settings import Settings

ImportMode = Literal["all", "skip"]


class OneLineGroup(TyperGroup):
    """Reports a usage error in one line."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except TyperException as wrong:
            if message := wrong.format_message():
                sys.exit(f"{command_name()}: {message.replace('Value error, ', '')}")
            raise  # the help, for a command without arguments


def create_cli(settings: Settings, *, app: str, accounts: str) -> typer.Typer:
    """The commands of the frame; `app` and `accounts` are import strings such as `app.main:app`.

    Only the commands that need them import them: nobody waits for FastAPI to migrate, or to be
    told of a misspelt option.
    """
    cli = typer.Typer(
        cls=OneLineGroup, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
    )
    _add_serve(cli, settings, app)
    _add_worker(cli, settings, app)
    _add_migrate(cli, settings, accounts)
    _add_create_superuser(cli, settings, accounts)
    _add_openapi(cli, app)
    _add_generate(cli, settings)
    _add_destroy(cli, settings)
    add_developer_commands(cli, settings, app=app, accounts=accounts)
    return cli


def run(cli: typer.Typer) -> None:
    """Run the command; an expected failure is one line, not a traceback."""
    # The interpreter would look through all that was imported once more, for 0.3 s.
    atexit.register(gc.freeze)
    # That line says what went wrong, so log only errors; the server configures its own log.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("ERROR"))
    try:
        cli()
    except Unavailable as away:
        sys.exit(f"{command_name()}: {away.reason or away.detail}")
    except AppError as refused:
        sys.exit(f"{command_name()}: {refused.detail}")
    except DBAPIError as failed:
        from timberframe.data.failures import lacks_schema, message_of

        advice = f" (has the database been migrated? try: {command_name()} migrate)"
        sys.exit(f"{command_name()}: {message_of(failed)}{advice if lacks_schema(failed) else ''}")


def _add_serve(cli: typer.Typer, settings: Settings, app: str) -> None:
    @cli.command()
    def serve(
        host: Annotated[str, typer.Option(help="Address to listen on.")] = settings.HOST,
        port: Annotated[
            int, typer.Option(help="Port to listen on.", min=1, max=65535)
        ] = settings.PORT,
        workers: Annotated[
            int, typer.Option(help="Number of processes.", min=1)
        ] = settings.WEB_CONCURRENCY,
        migrate_first: Annotated[
            bool, typer.Option("--migrate", help="Migrate the database first.")
        ] = False,
    ) -> None:
        """Serve the API until stopped; running requests are finished first."""
        for stop in (signal.SIGTERM, signal.SIGINT):
            # The first process of a container would ignore them otherwise.
            signal.signal(stop, lambda *_: sys.exit())

        from timberframe import server as serving
        from timberframe.data.options import DatabaseOptions
        from timberframe.data.start import check_database
        from timberframe.logging import configure_logging
        from timberframe.open_files import reserve_open_files

        log = structlog.get_logger()
        address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        try:
            _try_to_listen(host, port)
        except OSError as refused:
            sys.exit(f"{command_name()}: cannot listen on {address}: {refused.strerror}")
        reserve_open_files(settings)
        configure_logging(settings)
        jobs = load(app).state.jobs
        gc.freeze()  # the processes that are forked share what nobody looks through again
        if migrate_first:
            log.info("migrated", detail=_migrate(settings))
        is_embedded = settings.EMBEDDED_WORKER and bool(jobs)
        asyncio.run(check_database(DatabaseOptions.of(settings), workers + is_embedded))

        def work() -> None:
            from timberframe.jobs.process import run_worker

            run_worker(settings, jobs, parent=os.getppid(), when_started=serving.release_signals)

        server = serving.Server(
            app,
            settings,
            host=host,
            port=port,
            workers=workers,
            job_worker=work if is_embedded else None,
        )
        server.on_startup(lambda: log.info("serving", url=address, docs=f"{address}/api/docs"))
        server.run()
        if server.failed:
            sys.exit(f"{command_name()}: a worker could not start")


def _add_worker(cli: typer.Typer, settings: Settings, app: str) -> None:
    @cli.command()
    def worker() -> None:
        """Run background jobs until stopped; any number of workers may run, on any machines."""
        from timberframe.jobs.process import run_worker
        from timberframe.logging import configure_logging

        configure_logging(settings)
        jobs = load(app).state.jobs
        if not jobs:
            sys.exit(f"{command_name()}: the application has no jobs: give `jobs` to create_app")
        run_worker(settings, jobs)


def _try_to_listen(host: str, port: int) -> None:
    """Raise OSError if the port is taken: granian's sockets would share it."""
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)


def _add_migrate(cli: typer.Typer, settings: Settings, accounts: str) -> None:
    @cli.command()
    def migrate(
        pretend: Annotated[
            bool, typer.Option("--pretend", help="Print the SQL, and change nothing.")
        ] = False,
    ) -> None:
        """Migrate the database to the schema of this code; safe to run concurrently.

        With --pretend the migrations run, and are rolled back: they take the same locks.
        """
        load(accounts)  # imports all models, so that their tables are checked
        if not pretend:
            typer.echo(_migrate(settings))
            return
        from timberframe.commands.migration import pretend as run_and_roll_back
        from timberframe.data.options import DatabaseOptions

        for line in run_and_roll_back(DatabaseOptions.of(settings)) or ["-- Up to date"]:
            typer.echo(line)


def _migrate(settings: Settings) -> str:
    """Migrate; return the sentence that says what was done."""
    from timberframe.data.options import DatabaseOptions
    from timberframe.data.revisions import describe, known_migrations
    from timberframe.migrations import check_result, upgrade

    options = DatabaseOptions.of(settings)
    migrations = known_migrations(options.project.migrations)
    if applied := upgrade(options, then=check_result):
        return f"Applied {describe([migrations[revision] for revision in applied])}"
    return f"Up to date: {list(migrations.values())[-1]}"


def _add_create_superuser(cli: typer.Typer, settings: Settings, accounts: str) -> None:
    @cli.command()
    def create_superuser(
        email: Annotated[str, typer.Option(help="E-mail address.")],
        username: Annotated[str, typer.Option(help="Username.")],
        promote: Annotated[
            bool,
            typer.Option("--promote", help="Promote the account with this e-mail and username."),
        ] = False,
    ) -> None:
        """Create a superuser.

        Prompts for the password, or reads it as one line of standard input.
        """
        from timberframe.accounts.commands import create_superuser, promote_to_superuser
        from timberframe.data.options import DatabaseOptions
        from timberframe.data.retries import retrying

        user_crud, options = load(accounts), DatabaseOptions.of(settings)
        if promote:
            promoting = partial(promote_to_superuser, user_crud, options, email, username)
            asyncio.run(retrying(promoting))
            typer.echo(f"{username} is now a superuser")
            return
        password = _read_password()
        try:
            user_in = user_crud.sign_up(email=email, username=username, password=password)
        except ValidationError as invalid:
            sys.exit(_reasons(invalid))
        try:
            asyncio.run(retrying(partial(create_superuser, user_crud, options, user_in)))
        except AlreadyExists as taken:
            advice = "--promote promotes an existing account"
            sys.exit(f"{command_name()}: {taken.detail} ({advice})")
        typer.echo(f"Superuser {username} created")


def _read_password() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    password = getpass.getpass()
    if getpass.getpass("Password again: ") != password:
        sys.exit("The passwords differ")
    return password


def _reasons(invalid: ValidationError) -> str:
    from timberframe.schemas.validation_errors import message_of

    return "\n".join(f"{error['loc'][0]}: {message_of(error)}" for error in invalid.errors())


def _add_openapi(cli: typer.Typer, app: str) -> None:
    @cli.command()
    def openapi() -> None:
        """Print the OpenAPI document."""
        typer.echo(json.dumps(load(app).openapi(), indent=2))


def add_bulk_commands(
    cli: typer.Typer, settings: Settings, get_bulk: Callable[[], Any], *, name: str | None = None
) -> None:
    """Add `import` and `export`; `get_bulk` returns their `timberframe.bulk.console.Bulk`.

    With the `name` of a resource they are `import-orders` and `export-orders`.
    """
    suffix = f"-{name}" if name else ""

    @cli.command(f"import{suffix}")
    def import_file(
        file: Annotated[
            Path, typer.Argument(help="CSV or JSON Lines.", exists=True, dir_okay=False)
        ],
        username: Annotated[str, typer.Option("--as", help="The user who owns the rows.")],
        mode: Annotated[
            ImportMode, typer.Option(help="Import every row or none, or skip refused rows.")
        ] = "all",
        dry_run: Annotated[
            bool, typer.Option("--dry-run", help="Check everything, but keep nothing.")
        ] = False,
        format: Annotated[
            Format | None, typer.Option(help="Needed if the file name does not end with it.")
        ] = None,
        delimiter: Annotated[
            Delimiter, typer.Option(help="What separates the cells of a CSV file.")
        ] = "comma",
        decimal: Annotated[
            DecimalMark, typer.Option(help="The decimal mark of a CSV file.")
        ] = "point",
    ) -> None:
        """Create rows from a file, and update those of the user that have the same key."""
        from timberframe.bulk.console import import_file, show_report
        from timberframe.data.options import DatabaseOptions
        from timberframe.schemas.bulk import ImportParams

        if not file.is_file():
            sys.exit(f"{command_name()}: the file must be a regular file, not a pipe")
        file_format = format or _format_of(file)
        if file_format != "csv" and (delimiter, decimal) != ("comma", "point"):
            sys.exit(f"{command_name()}: --delimiter and --decimal are only for CSV")
        params = ImportParams(mode=mode, dry_run=dry_run, delimiter=delimiter, decimal=decimal)
        options = DatabaseOptions.of(settings)
        importing = import_file(
            get_bulk(), file, file_format, params, options=options, username=username
        )
        report = asyncio.run(importing)
        show_report(report)
        if report.refused:
            sys.exit(1)

    @cli.command(f"export{suffix}")
    def export_file(
        file: Annotated[Path, typer.Argument(help="CSV or JSON Lines.", dir_okay=False)],
        username: Annotated[
            str | None,
            typer.Option("--as", help="Export what this user may read, not what everybody may."),
        ] = None,
        format: Annotated[
            Format | None, typer.Option(help="Needed if the file name does not end with it.")
        ] = None,
    ) -> None:
        """Write rows to a file that can be imported again."""
        from timberframe.bulk.console import export_file
        from timberframe.data.options import DatabaseOptions

        file_format, options = format or _format_of(file), DatabaseOptions.of(settings)
        asyncio.run(export_file(get_bulk(), file, file_format, options=options, username=username))


def add_seed_command(
    cli: typer.Typer,
    settings: Settings,
    get_bulk: Callable[[], Any],
    make_row: Callable[[int], dict[str, Any]],
    *,
    name: str,
) -> None:
    """Add `seed-orders`, where `name` is `orders`: it imports demo rows.

    `make_row` gives the values of one, by a number from 1 on that no other has. A row that is there
    already, by its natural key, is not made again.
    """

    @cli.command(f"seed-{name}")
    def seed(
        username: Annotated[str, typer.Option("--as", help="The user who owns the rows.")],
        count: Annotated[int, typer.Option(help="Rows to make.", min=1)] = 100,
    ) -> None:
        """Make demo rows; those of an earlier call stay."""
        from timberframe.bulk.console import seed_rows, show_report
        from timberframe.data.options import DatabaseOptions

        rows = map(make_row, range(1, count + 1))
        options = DatabaseOptions.of(settings)
        report = asyncio.run(seed_rows(get_bulk(), rows, options=options, username=username))
        show_report(report)
        if report.refused:
            sys.exit(1)


def _format_of(file: Path) -> Format:
    known = get_args(Format)
    suffix = file.suffix.lower().removeprefix(".")
    if suffix not in known:
        what = f"{file.name} does not end with {' or '.join(known)}: --format is required"
        sys.exit(f"{command_name()}: {what}")
    return cast(Format, suffix)


_GENERATE_RESOURCE = """\
Write model, schemas, crud, endpoints, migration and tests of a resource.

\b
Types:
  str text int bool money decimal date datetime uuid json
  ref:product       the id of a row of another resource
  refs:product      the ids of up to 100 of them, not for a field that is added later
  enum:draft,paid   one of these words
  str?  ref:user?   with a ?: it may be null
  int=0             with a default, for rows that are created without it

\b
Policies; superusers may do everything:
  owner             its owner reads and writes it
  public-read       everybody reads it, its owner writes it
  published         everybody reads it, nobody else writes it
  superuser         nobody else reads or writes it

\b
Examples:
  $command generate resource order number:str:unique amount:money
  $command generate resource order_line order:ref:order count:int
"""


def _add_generate(cli: typer.Typer, settings: Settings) -> None:
    generate = typer.Typer(cls=OneLineGroup, no_args_is_help=True)
    cli.add_typer(
        generate, name="generate", help="Write a resource, or a part of one, into this checkout."
    )

    shown = f".venv/bin/{settings.project.name}"
    help_text = _GENERATE_RESOURCE.replace("$command", shown)

    @generate.command("resource", no_args_is_help=True, help=help_text)
    def generate_resource(
        name: Annotated[str, typer.Argument(help="In the singular: order, order_line.")],
        fields: Annotated[
            list[str] | None, typer.Argument(help="name:type, and :unique, :index or :search.")
        ] = None,
        policy: Annotated[
            str, typer.Option(help="owner, public-read, published or superuser.")
        ] = "owner",
        plural: Annotated[str | None, typer.Option(help="The plural, if it is irregular.")] = None,
        bulk: Annotated[
            bool, typer.Option("--bulk", help="With import and export, as routes and commands.")
        ] = False,
        seed: Annotated[
            bool, typer.Option("--seed", help="With a command that makes demo rows; needs --bulk.")
        ] = False,
        events: Annotated[
            bool, typer.Option("--events", help="With its changes as events, and a live stream.")
        ] = False,
    ) -> None:
        from timberframe.generator.resource import generate

        done = generate(
            settings.project,
            name,
            fields or [],
            policy=policy,
            plural=plural,
            has_bulk=bulk,
            has_seed=seed,
            has_events=events,
        )
        for line in done:
            typer.echo(line)
        typer.echo(f"\nNext: .venv/bin/{command_name()} migrate\n      make check")

    @generate.command("field", no_args_is_help=True)
    def generate_field(
        resource: Annotated[str, typer.Argument(help="The name that it was generated with.")],
        field: Annotated[str, typer.Argument(help="name:type, as for a resource.")],
    ) -> None:
        """Add a field to a generated resource: nullable (pages:int?), or with a default (=0)."""
        from timberframe.generator.field import generate_field as add_field

        for line in add_field(settings.project, resource, field):
            typer.echo(line)
        typer.echo(f"\nNext: .venv/bin/{command_name()} migrate\n      make check")

    @generate.command("route", no_args_is_help=True)
    def generate_route(
        resource: Annotated[str, typer.Argument(help="The name that it was generated with.")],
        method: Annotated[str, typer.Argument(help="GET, or POST for a change of a row.")],
        path: Annotated[str, typer.Argument(help="/latest, or '/{id}/similar' of a row.")],
        name: Annotated[str, typer.Argument(help="Of the handler: read_latest_orders.")],
    ) -> None:
        """Add a route to a generated resource, with its row in the table of routes and a test.

        The handler reads the list or the row, or changes nothing of it: write what it is for.
        """
        from timberframe.generator.route import generate_route as add_route

        for line in add_route(settings.project, resource, method, path, name):
            typer.echo(line)


def _add_destroy(cli: typer.Typer, settings: Settings) -> None:
    destroy = typer.Typer(cls=OneLineGroup, no_args_is_help=True)
    cli.add_typer(destroy, name="destroy", help="Remove a generated resource or field.")

    @destroy.command("resource", no_args_is_help=True)
    def destroy_resource(
        name: Annotated[str, typer.Argument(help="The name that it was generated with.")],
        force: Annotated[
            bool, typer.Option("--force", help="Even if files were changed since.")
        ] = False,
    ) -> None:
        """Remove everything that `generate resource` wrote.

        A new migration drops the table; the one that creates it is removed instead if it is the
        newest and the database does not have it.
        """
        from timberframe.data.options import DatabaseOptions
        from timberframe.generator.database import is_applied
        from timberframe.generator.resource import destroy, revision_of

        project, options = settings.project, DatabaseOptions.of(settings)
        was_applied = asyncio.run(is_applied(options, revision_of(project, name)))
        for line in destroy(project, name, is_forced=force, is_applied=was_applied):
            typer.echo(line)

    @destroy.command("field", no_args_is_help=True)
    def destroy_field(
        resource: Annotated[str, typer.Argument(help="The name that it was generated with.")],
        field: Annotated[str, typer.Argument(help="The name of the field.")],
    ) -> None:
        """Drop a field of a generated resource, with its values.

        A new migration drops it; the one that adds it is removed if it is the newest and the
        database does not have it.
        """
        from timberframe.data.options import DatabaseOptions
        from timberframe.generator.database import is_applied
        from timberframe.generator.field import destroy_field as drop_field
        from timberframe.generator.field import revision_that_adds

        project, options = settings.project, DatabaseOptions.of(settings)
        revision = revision_that_adds(project, resource, field)
        was_applied = revision is None or asyncio.run(is_applied(options, revision))
        for line in drop_field(project, resource, field, is_applied=was_applied):
            typer.echo(line)
