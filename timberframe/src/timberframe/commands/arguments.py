"""The arguments of the developer's commands; what they do is imported when one of them runs."""

import sys
from functools import partial
from typing import Annotated, Any, Literal

import typer

from timberframe.commands.loading import command_name, load
from timberframe.settings import Settings

AsJson = Annotated[bool, typer.Option("--json", help="As JSON, for programs.")]
Access = Literal["public", "everybody", "signed-in", "owner", "superuser"]


Status = Literal["queued", "running", "done", "dead"]
JobId = Annotated[int, typer.Argument(help="The id of the job.", metavar="ID", min=1)]


def add_developer_commands(
    cli: typer.Typer, settings: Settings, *, app: str, accounts: str
) -> None:
    """`app` and `accounts` are import strings, as those of `create_cli`."""
    _add_dev(cli, settings)
    _add_shell(cli, app)
    _add_dbshell(cli, settings)
    _add_routes(cli, settings, app)
    _add_migration(cli, settings, accounts)
    _add_check(cli, settings, app)
    _add_about(cli, settings)
    _add_jobs(cli, settings, app)


def _add_dev(cli: typer.Typer, settings: Settings) -> None:
    @cli.command()
    def dev(
        host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
        port: Annotated[
            int | None, typer.Option(help="Port to listen on.", min=1, max=65535)
        ] = None,
    ) -> None:
        """Migrate, serve, and start again whenever a file changes; for development."""
        from timberframe.commands.dev import start

        if settings.is_production:
            name = command_name()
            sys.exit(f"{name}: dev is for development, and ENVIRONMENT is production: {name} serve")
        options = {"--host": host, "--port": port}
        start(
            settings.project.root,
            [str(part) for pair in options.items() if pair[1] is not None for part in pair],
        )


def _add_shell(cli: typer.Typer, app: str) -> None:
    @cli.command()
    def shell(
        caller: Annotated[
            str | None, typer.Option("--as", help="The account that `client` is signed in as.")
        ] = None,
        sandbox: Annotated[
            bool, typer.Option("--sandbox", help="Roll everything back at the end.")
        ] = False,
        source: Annotated[
            str | None, typer.Option("-c", help="Run this code, and exit.", metavar="CODE")
        ] = None,
    ) -> None:
        """Open Python with a session `db`, a `client`, the models and the cruds.

        Top-level `await` works. Each input is committed, or rolled back if it fails. IPython is
        used if it is installed. On SQLite, nobody else can write while a sandbox is open.
        """
        from timberframe.commands.shell import Shell

        with Shell(load(app), caller=caller, is_sandbox=sandbox) as opened:
            if source is None and sys.stdin.isatty():
                opened.interact()
            elif not opened.run_source(sys.stdin.read() if source is None else source):
                sys.exit(1)


def _add_dbshell(cli: typer.Typer, settings: Settings) -> None:
    @cli.command(context_settings={"ignore_unknown_options": True})
    def dbshell(
        arguments: Annotated[
            list[str] | None, typer.Argument(help="What sqlite3 or psql takes, such as -c.")
        ] = None,
    ) -> None:
        """Open the database's own shell: sqlite3 or psql."""
        from timberframe.commands.dbshell import start
        from timberframe.data.options import DatabaseOptions

        start(DatabaseOptions.of(settings), arguments or [])


def _add_routes(cli: typer.Typer, settings: Settings, app: str) -> None:
    @cli.command()
    def routes(
        method: Annotated[
            str | None, typer.Argument(help="With a path: which route answers it.")
        ] = None,
        path: Annotated[str | None, typer.Argument(help="Such as /api/v1/users/7.")] = None,
        text: Annotated[
            str | None, typer.Option("-g", "--grep", help="Only lines with this text.")
        ] = None,
        access: Annotated[Access | None, typer.Option(help="Only routes with this access.")] = None,
        unused: Annotated[
            bool, typer.Option("--unused", help="Routes that no request reaches; exit code 1.")
        ] = False,
        as_json: AsJson = False,
    ) -> None:
        """List the routes: who may call each, and where its handler is.

        The access follows from the dependencies and the policy; `+ name` is a check of your own.
        """
        from timberframe.commands.routes import answering, select, show, show_unused, to_json

        application, root = load(app), settings.project.root
        if unused:
            sys.exit(show_unused(application, root))
        if method and not path:
            sys.exit(f"{command_name()}: routes {method}: the path is missing")
        if method and path:
            rows = answering(application, method, path)
        else:
            rows = select(application, root, text=text, access=access)
        if as_json:
            typer.echo(to_json(rows, root))
        else:
            show(rows, root)


def _add_migration(cli: typer.Typer, settings: Settings, accounts: str) -> None:
    @cli.command()
    def migration(
        message: Annotated[str, typer.Argument(help='What it does, such as "add weight".')],
    ) -> None:
        """Write a migration with what the models have and the database lacks."""
        from timberframe.commands.migration import UNSEEN, write_migration
        from timberframe.data.options import DatabaseOptions

        load(accounts)  # imports all models
        written = write_migration(DatabaseOptions.of(settings), message)
        if written is None:
            typer.echo("Nothing changed: the models and the database are alike")
            return
        typer.echo(f"create  {written.file.relative_to(settings.project.root)}")
        for warning in written.warnings:
            typer.secho(f"warning  {warning}", fg="yellow")
        typer.echo(f"\n{UNSEEN}.\nNext: read it, then {command_name()} migrate")


def _add_check(cli: typer.Typer, settings: Settings, app: str) -> None:
    @cli.command()
    def check(as_json: AsJson = False) -> None:
        """Say what is wrong with settings, declarations, routes, migrations and the database.

        Each finding has an id, and the command or change that mends it. The exit code is 1 if there
        is one.
        """
        from timberframe.commands.check import find_all, to_json

        found = find_all(settings, app)
        if as_json:
            typer.echo(to_json(found))
        elif not found:
            typer.echo("Nothing is wrong with settings, routes, migrations and the database")
        else:
            for each in found:
                typer.echo(f"{typer.style(each.id, fg='red', bold=True)}: {each.problem}")
                typer.echo(f"  {typer.style('mend:', bold=True)} {each.remedy}")
        sys.exit(1 if found else 0)


def _add_about(cli: typer.Typer, settings: Settings) -> None:
    @cli.command()
    def about(as_json: AsJson = False) -> None:
        """Show versions, the database, and the settings in use; never a secret."""
        from timberframe.commands.about import describe, to_json, to_text

        sections = describe(settings)
        typer.echo(to_json(sections) if as_json else to_text(sections))


def _add_jobs(cli: typer.Typer, settings: Settings, app: str) -> None:
    jobs = typer.Typer(help="Look at background jobs, retry them, drop them.", no_args_is_help=True)
    cli.add_typer(jobs, name="jobs")

    def options() -> Any:
        from timberframe.data.options import DatabaseOptions

        return DatabaseOptions.of(settings)

    @jobs.command("list")
    def list_jobs(
        status: Annotated[Status | None, typer.Option(help="Only these.")] = None,
        name: Annotated[str | None, typer.Option(help="Only jobs of this name.")] = None,
        limit: Annotated[int, typer.Option(help="How many.", min=1, max=1000)] = 20,
        is_live: Annotated[bool, typer.Option("--watch", help="Until Ctrl+C.")] = False,
        as_json: AsJson = False,
    ) -> None:
        """List jobs, the newest first."""
        from rich.console import Console

        from timberframe.commands import jobs as command

        filters: dict[str, Any] = {"status": status, "name": name, "limit": limit}
        if is_live:
            command.watch(options(), **filters)
        records = command.run(options(), partial(command.find_jobs, **filters))
        if as_json:
            typer.echo(f"[{', '.join(map(command.as_json, records))}]")
        else:
            counts = command.run(options(), command.count_jobs)
            Console().print(command.table_of(records, counts))

    @jobs.command()
    def show(job_id: JobId) -> None:
        """Print all that is known of a job, as JSON."""
        from timberframe.commands import jobs as command

        typer.echo(
            command.as_json(command.run(options(), partial(command.find_job, job_id=job_id)))
        )

    @jobs.command()
    def retry(job_id: JobId) -> None:
        """Queue a dead or waiting job again, now and with all its attempts."""
        from timberframe.commands import jobs as command

        command.run(options(), partial(command.retry, job_id=job_id))
        typer.echo(f"Job {job_id} is queued")

    @jobs.command()
    def drop(job_id: JobId) -> None:
        """Delete a job that is not running."""
        from timberframe.commands import jobs as command

        command.run(options(), partial(command.drop, job_id=job_id))
        typer.echo(f"Job {job_id} is gone")

    @jobs.command("run")
    def run_job(job_id: JobId) -> None:
        """Run a job in this process, whenever it is due."""
        from timberframe.commands import jobs as command
        from timberframe.jobs.worker import JobOptions
        from timberframe.logging import configure_logging

        configure_logging(settings)
        declared = load(app).state.jobs
        acting = partial(
            command.run_here, jobs=declared, job_id=job_id, options=JobOptions.of(settings)
        )
        record = command.run(options(), acting)
        if record.status != "done":
            sys.exit(f"{command_name()}: job {job_id} is {record.status}: {record.error}")
        typer.echo(f"Job {job_id} is done")
