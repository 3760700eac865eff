"""The `myapi` command."""

import asyncio
import getpass
import json
import signal
import socket
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args

import structlog
import typer
from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError
from typer.core import TyperGroup
from typer.exceptions import TyperException

from app.bulk.cells import DecimalMark
from app.bulk.files import Delimiter, Format
from app.core.config import settings
from app.core.errors import AlreadyExists, AppError, Unavailable

ImportMode = Literal["all", "skip"]


class OneLineGroup(TyperGroup):
    """What is misspelt is told in one line."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except TyperException as wrong:
            if message := wrong.format_message():
                sys.exit(f"myapi: {message.replace('Value error, ', '')}")
            raise  # the help, for a command without arguments


cli = typer.Typer(
    cls=OneLineGroup, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)
generate = typer.Typer(cls=OneLineGroup, no_args_is_help=True)
destroy = typer.Typer(cls=OneLineGroup, no_args_is_help=True)
cli.add_typer(generate, name="generate", help="Write a resource into this checkout.")
cli.add_typer(destroy, name="destroy", help="Take a generated resource away again.")


def main() -> None:
    """Run the command; a failure it foresees is one line, not a traceback."""
    # That line says what went wrong; the log below an error is the server's, which sets it up.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("ERROR"))
    try:
        cli()
    except Unavailable as away:
        sys.exit(f"myapi: {away.reason or away.detail}")
    except AppError as refused:
        sys.exit(f"myapi: {refused.detail}")
    except DBAPIError as failed:
        from app.db.failures import lacks_schema, words_of

        advice = " (has the database been migrated? try: myapi migrate)"
        sys.exit(f"myapi: {words_of(failed)}{advice if lacks_schema(failed) else ''}")


@cli.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = settings.HOST,
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = settings.PORT,
    workers: Annotated[
        int, typer.Option(help="Number of processes.", min=1)
    ] = settings.WEB_CONCURRENCY,
    migrate_first: Annotated[
        bool, typer.Option("--migrate", help="Migrate the database first.")
    ] = False,
) -> None:
    """Serve the API until stopped; requests under way are finished."""
    for stop in (signal.SIGTERM, signal.SIGINT):
        # The first process of a container would ignore them otherwise.
        signal.signal(stop, lambda *_: sys.exit())

    from app.core.logging import configure_logging
    from app.core.open_files import reserve_open_files
    from app.db.start import check_database
    from app.server import TARGET, Server, load_app

    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    try:
        _try_to_listen(host, port)
    except OSError as refused:
        sys.exit(f"myapi: cannot listen on {address}: {refused.strerror}")
    reserve_open_files()
    configure_logging()
    try:
        load_app(TARGET)
    except AppError:
        raise
    except Exception as broken:
        structlog.get_logger().debug("not_loaded", exc_info=True)
        what = f"{type(broken).__name__}: {broken}"
        sys.exit(f"myapi: the application cannot be loaded: {what} (more with LOG_LEVEL=debug)")
    if migrate_first:
        structlog.get_logger().info("migrated", detail=_migrate())
    asyncio.run(check_database(workers))
    server = Server(host, port, workers)
    server.on_startup(
        lambda: structlog.get_logger().info("serving", url=address, docs=f"{address}/api/docs")
    )
    server.run()
    if server.failed:
        sys.exit("myapi: a worker could not start")


def _try_to_listen(host: str, port: int) -> None:
    """Raise OSError where somebody listens already: granian's sockets would share the port."""
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)


@cli.command()
def migrate() -> None:
    """Bring the database to the schema of this code; safe to run twice at once."""
    typer.echo(_migrate())


def _migrate() -> str:
    """Migrate; return the sentence that says what was done."""
    import app.models  # noqa: F401 - so that the tables of all of them are checked
    from app.db.migrations import check_result, upgrade
    from app.db.revisions import describe, known_migrations

    migrations = known_migrations()
    if applied := upgrade(then=check_result):
        return f"Applied {describe([migrations[revision] for revision in applied])}"
    return f"Up to date: {list(migrations.values())[-1]}"


@cli.command()
def create_superuser(
    email: Annotated[str, typer.Option(help="E-mail address.")],
    username: Annotated[str, typer.Option(help="Username.")],
    promote: Annotated[
        bool, typer.Option("--promote", help="Promote the account with this e-mail and username.")
    ] = False,
) -> None:
    """Create a superuser; the password is asked for, or read as one line of standard input."""
    from app import schemas
    from app.crud.policy import SERVER
    from app.crud.user import user_crud
    from app.db.retries import retrying
    from app.db.session import in_session, open_database
    from app.schemas.reasons import reason_of

    if promote:
        asyncio.run(retrying(lambda: _promote(email, username)))
        typer.echo(f"{username} is a superuser")
        return
    if sys.stdin.isatty():
        password = getpass.getpass()
        if getpass.getpass("Password again: ") != password:
            sys.exit("The passwords differ")
    else:
        password = sys.stdin.readline().rstrip("\n")
    try:
        user_in = schemas.UserCreate(email=email, username=username, password=password)
    except ValidationError as invalid:
        lines = (f"{e['loc'][0]}: {reason_of(e)}" for e in invalid.errors())
        sys.exit("\n".join(lines))

    async def create() -> None:
        async with open_database() as database, database.transaction() as db:
            write = in_session(db)
            await user_crud.create(write, obj_in=user_in, viewer=SERVER, is_superuser=True)

    try:
        asyncio.run(retrying(create))
    except AlreadyExists as taken:
        sys.exit(f"myapi: {taken.detail} (--promote promotes an existing account)")
    typer.echo(f"Superuser {username} created")


async def _promote(email: str, username: str) -> None:
    from app.crud.user import user_crud
    from app.db.session import open_database

    async with open_database() as database, database.transaction() as db:
        user = await user_crud.get_by_login(db, login=email)
        if user is None or user.username.lower() != username.lower():
            sys.exit(f"myapi: there is no account with the e-mail {email} and username {username}")
        if not user.is_active:
            sys.exit(f"myapi: the account {user.username} is disabled")
        user.is_superuser = True


@cli.command()
def seed(
    users: Annotated[int, typer.Option(help="Demo users to make.", min=1)] = 10,
    products: Annotated[int, typer.Option(help="Demo products to make.", min=0)] = 1000,
) -> None:
    """Fill the database with demo users and products, all or nothing."""
    from app.db.retries import retrying
    from app.seed import seed_database

    asyncio.run(retrying(lambda: seed_database(users, products)))


@cli.command("import")
def import_products(
    file: Annotated[Path, typer.Argument(help="CSV or JSON Lines.", exists=True, dir_okay=False)],
    username: Annotated[str, typer.Option("--as", help="Whose products they are.")],
    mode: Annotated[ImportMode, typer.Option(help="Every row or none, or the good ones.")] = "all",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Keep nothing.")] = False,
    format: Annotated[Format | None, typer.Option(help="If the file's name does not say.")] = None,
    delimiter: Annotated[Delimiter, typer.Option(help="Between cells of CSV.")] = "comma",
    decimal: Annotated[
        DecimalMark, typer.Option(help="Before the fraction of a number.")
    ] = "point",
) -> None:
    """Create products, and update those of the user that have the same sku, from a file."""
    from app import schemas
    from app.bulk.console import import_file, show_report

    if not file.is_file():
        sys.exit("myapi: the file must be a plain one, not a pipe")
    file_format = format or _format_of(file)
    if file_format != "csv" and (delimiter, decimal) != ("comma", "point"):
        sys.exit("myapi: --delimiter and --decimal are for CSV alone")
    params = schemas.ImportParams(mode=mode, dry_run=dry_run, delimiter=delimiter, decimal=decimal)
    report = asyncio.run(import_file(file, file_format, params, username=username))
    show_report(report)
    if report.refused:
        sys.exit(1)


@cli.command("export")
def export_products(
    file: Annotated[Path, typer.Argument(help="CSV or JSON Lines.", dir_okay=False)],
    username: Annotated[
        str | None, typer.Option("--as", help="Whose view: without it, everybody's.")
    ] = None,
    format: Annotated[Format | None, typer.Option(help="If the file's name does not say.")] = None,
) -> None:
    """Write products to a file that can be imported again."""
    from app.bulk.console import export_file

    asyncio.run(export_file(file, format or _format_of(file), username=username))


def _format_of(file: Path) -> Format:
    known = get_args(Format)
    suffix = file.suffix.lower().removeprefix(".")
    if suffix not in known:
        sys.exit(f"myapi: {file.name} does not end with {' or '.join(known)}: --format is needed")
    return cast(Format, suffix)


@cli.command()
def openapi() -> None:
    """Print the OpenAPI document."""
    from app.main import app

    typer.echo(json.dumps(app.openapi(), indent=2))


@generate.command("resource", no_args_is_help=True)
def generate_resource(
    name: Annotated[str, typer.Argument(help="In the singular: order, order_line.")],
    fields: Annotated[
        list[str] | None, typer.Argument(help="name:type, and :unique, :index or :search.")
    ] = None,
    policy: Annotated[
        str, typer.Option(help="owner, public-read, published or superuser.")
    ] = "owner",
    plural: Annotated[str | None, typer.Option(help="If it is not the usual one.")] = None,
) -> None:
    """Write model, schemas, crud, endpoints, migration and tests of a resource.

    \b
    Types:
      str text int bool money decimal date datetime uuid json
      ref:product       the id of a row of another resource
      str?  ref:user?   a ? after it: it may be null

    \b
    Policies; superusers may do all:
      owner             its owner reads and writes it
      public-read       everybody reads it, its owner writes it
      published         everybody reads it, nobody else writes it
      superuser         nobody else has anything to do with it

    \b
    Examples:
      .venv/bin/myapi generate resource order number:str:unique amount:money
      .venv/bin/myapi generate resource order_line order:ref:order count:int
    """
    from app.generator.resource import generate

    for line in generate(name, fields or [], policy=policy, plural=plural):
        typer.echo(line)
    typer.echo("\nNext: .venv/bin/myapi migrate\n      make check")


@destroy.command("resource", no_args_is_help=True)
def destroy_resource(
    name: Annotated[str, typer.Argument(help="As it was generated.")],
    force: Annotated[
        bool, typer.Option("--force", help="Though files were changed since.")
    ] = False,
) -> None:
    """Remove what `generate resource` wrote, to the letter; the last one first."""
    from app.generator.database import is_applied
    from app.generator.resource import destroy, revision_of

    if asyncio.run(is_applied(revision_of(name))):
        sys.exit(
            f"myapi: {name}: the database has its table; first: .venv/bin/alembic downgrade -1"
        )
    for line in destroy(name, is_forced=force):
        typer.echo(line)
