"""Migrations of another project, in a process of its own."""

import asyncio
import gc
import json
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

import sqlalchemy as sa
from alembic.config import main
from pydantic import SecretStr

from timberframe.data.options import DatabaseOptions
from timberframe.data.session import open_database
from timberframe.settings import Settings


def migrate(urls: Sequence[str], steps: Sequence[str]) -> NoReturn:
    """Run commands of Alembic, and SQL in between, on each database, and end this process.

    Its last line has the rows of all SQL, for each of them.
    """
    gc.disable()  # to look through all that was imported would take a tenth of the time
    settings: Settings = import_module("app.core.config").settings
    sys.stdout.write(json.dumps([_run(settings, url, steps) for url in urls]))
    sys.exit()


def _run(settings: Settings, url: str, steps: Sequence[str]) -> list[list[Any]]:
    settings.DATABASE_URL = SecretStr(url)
    rows = []
    for step in steps:
        if step.split()[0].isupper():
            rows += asyncio.run(_execute(settings, step))
        else:
            main(step.split())
    return rows


async def _execute(settings: Settings, sql: str) -> list[list[Any]]:
    options = DatabaseOptions.of(settings)
    async with open_database(options) as database, database.transaction() as db:
        result = await db.execute(sa.text(sql))
        is_query = isinstance(result, sa.CursorResult) and result.returns_rows
        return [list(row) for row in result] if is_query else []
