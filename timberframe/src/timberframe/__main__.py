"""The frame's own command, `timberframe`, for where there is no project yet."""

from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from timberframe.cli import OneLineGroup, run

cli = typer.Typer(
    cls=OneLineGroup, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)


@cli.callback()
def frame() -> None:
    """Start an API of your own; in a project, use the project's own command."""


@cli.command()
def new(
    folder: Annotated[
        Path, typer.Argument(help="A new folder; its name is that of the project: shop, ../shop.")
    ],
    without_example: Annotated[
        bool, typer.Option("--without-example", help="Only users: no products and categories.")
    ] = False,
) -> None:
    """Make a folder with a new project in it."""
    from timberframe.generator.new_project import new_project

    new_project(folder.absolute(), with_example=not without_example)
    typer.echo(f"Made {folder}/\n\nNext: cd {quote(str(folder))}\n      make run")


def main() -> None:
    run(cli)


if __name__ == "__main__":
    main()
