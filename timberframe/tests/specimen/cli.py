"""The specimen's command."""

from typing import Any

from specimen.config import settings
from timberframe.cli import add_bulk_commands, create_cli, run

cli = create_cli(settings, app="specimen.main:app", accounts="specimen.crud:user_crud")


def _products() -> Any:
    from specimen.crud import product_crud, user_crud
    from specimen.models import Product
    from specimen.schemas import ProductCreate
    from timberframe.bulk.console import Bulk

    return Bulk(product_crud, ProductCreate, user_crud, owner=Product.owner_id)


add_bulk_commands(cli, settings, _products)


def main() -> None:
    run(cli)
