"""The arguments of the developer's commands; what they do is imported when one of them runs."""

import sys
from typing import Annotated, Literal

import typer

from timberframe.commands.loading import command_name, load_app
from timberframe.settings import Settings

AsJson = Annotated[bool, typer.Option("--json", help="As JSON, for programs.")]
Access = Literal["public", "everybody", "signed-in", "owner", "superuser"]


def add_developer_commands(
    cli: typer.Typer, settings: Settings, *, app: str, accounts: str
) -> None:
    """`app` and `accounts` are import strings, as those of `create_cli`."""
    _add_routes(cli, settings, app)


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

        application, root = load_app(app), settings.project.root
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
