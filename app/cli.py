"""The project's command: the frame's subcommands, and its own."""

import asyncio
from typing import Annotated, Any

import typer
from timberframe.cli import add_bulk_commands, create_cli, run

from app.core.config import settings

cli = create_cli(settings, app="app.main:app", accounts="app.crud:user_crud")


def _products() -> Any:
    from timberframe.bulk.console import Bulk

    from app import schemas
    from app.crud import product_crud, user_crud
    from app.models import Product

    return Bulk(product_crud, schemas.ProductCreate, user_crud, owner=Product.owner_id)


add_bulk_commands(cli, settings, _products)


@cli.command()
def seed(
    users: Annotated[int, typer.Option(help="Demo users to make.", min=1)] = 10,
    products: Annotated[int, typer.Option(help="Demo products to make.", min=0)] = 1000,
) -> None:
    """Fill the database with demo users and products, all or nothing."""
    from timberframe.data.retries import retrying

    from app.seed import seed_database

    asyncio.run(retrying(lambda: seed_database(users, products)))


def main() -> None:
    run(cli)
