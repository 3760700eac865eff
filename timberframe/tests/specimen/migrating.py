"""Migrations of another project, in a process of its own."""

import asyncio
import gc
import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic.config import main
from pydantic import SecretStr

from timberframe.data.options import DatabaseOptions
from timberframe.data.session import open_database
from timberframe.settings import Settings


def migrate(
    root: Path,
    environment: Mapping[str, str],
    urls: Sequence[str],
    steps: Sequence[str],
    output: Path,
) -> None:
    """Run commands of Alembic, and SQL in between, on each database.

    The last line of the output has the rows of all SQL, for each of them.
    """
    gc.disable()  # to look through all that was imported would take a tenth of the time
    os.chdir(root)
    os.environ.clear()
    os.environ.update(environment)
    sys.path.insert(0, str(root))
    with output.open("w") as file, redirect_stdout(file), redirect_stderr(file):
        settings: Settings = import_module("app.core.config").settings
        file.write(json.dumps([_run(settings, url, steps) for url in urls]))


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
