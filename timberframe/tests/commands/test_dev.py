"""`dev` in a process of its own, on a copy of the specimen whose files are changed meanwhile."""

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import NamedTuple

import httpx2
import pytest

from specimen.config import settings
from timberframe.testing import call_command, environment, free_port
from timberframe.testing.forked import exit_code, fork_command

pytestmark = pytest.mark.seconds(8)

# Whoever has written it reads it first, and then migrates.
MIGRATION = """\"\"\"add weight\"\"\"

revision: str = "5c0de5"
down_revision: str | None = "{}"
"""
PATIENCE_SECONDS = 60  # a busy machine is no failure


class Developer(NamedTuple):
    """What somebody sees who runs `dev` in `root`."""

    root: Path
    client: httpx2.Client
    process: ForkServerProcess
    log: Path

    def title(self) -> str:
        """That of the documentation, which the settings say."""
        page = self.client.get("/api/docs").text
        return page.partition("<title>")[2].partition("</title>")[0]

    def edit(self, old: str, new: str, *, file_name: str = "config.py") -> None:
        file = self.root / "specimen" / file_name
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))

    def wait_until(self, has_happened: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self._has(has_happened):
            assert self.process.exitcode is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)

    def _has(self, happened: Callable[[], bool]) -> bool:
        try:
            return happened()
        except httpx2.HTTPError:  # between two servers
            return False

    def status(self, path: str) -> int:
        return self.client.get(path).status_code


@pytest.fixture
def developer(tmp_path: Path) -> Iterator[Developer]:
    root = tmp_path / "project"
    root.mkdir()
    shutil.copy(settings.project.pyproject, root)
    for folder in ("specimen", "alembic"):
        shutil.copytree(settings.project.root / folder, root / folder)
    port = free_port()
    env = environment(DATABASE_URL=f"sqlite:///{tmp_path}/dev.db", PYTHONPATH=str(root))
    log = tmp_path / "log"
    log.touch()
    # No connection is kept: the next request may be to the next server.
    client = httpx2.Client(
        base_url=f"http://127.0.0.1:{port}", limits=httpx2.Limits(max_keepalive_connections=0)
    )
    # It replaces itself by a program of its own.
    process = fork_command(
        *("dev", "--port", str(port)),
        environment=env,
        before=f"import os; os.chdir({str(root)!r})",
        files=(os.devnull, log, log),
    )
    with client:
        try:
            yield Developer(root, client, process, log)
        finally:
            process.terminate()
            exit_code(process, within=PATIENCE_SECONDS)


def test_changes_are_served_and_a_broken_file_is_waited_for(developer: Developer) -> None:
    name = type(settings).model_fields["PROJECT_NAME"].default
    developer.wait_until(lambda: developer.title() == name)
    assert developer.status("/health/ready") == 200  # it has migrated

    listing = "return await product_crud.get_multi(db, params=params, viewer=viewer)"
    forgetful = f"product_crud.read(db, 1, viewer=viewer)\n    {listing}"
    developer.edit(listing, forgetful, file_name="endpoints.py")
    developer.edit(name, "Changed")
    developer.wait_until(lambda: developer.title() == "Changed")
    assert "changed specimen/config.py" in developer.log.read_text()

    never_awaited = "coroutine 'ReadBase.read' was never awaited"
    developer.wait_until(
        lambda: (
            developer.status("/api/v1/products/") == 200
            and never_awaited in developer.log.read_text()
        )
    )
    made_at = r"Coroutine created at.*\n.*specimen/endpoints\.py\", line \d+, in read_products"
    assert re.search(made_at, developer.log.read_text())

    developer.edit('"Changed"', '"Changed')
    developer.wait_until(lambda: "waiting for a change" in developer.log.read_text())
    log = developer.log.read_text()
    with pytest.raises(httpx2.ConnectError):
        developer.title()
    assert "SyntaxError: unterminated string literal" in log
    assert "specimen/config.py:" in log
    assert "importlib" not in log

    versions = developer.root / "alembic" / "versions"
    newest = sorted(versions.glob("*.py"))[-1]
    head = re.search(r'^revision: str = "(\w+)"', newest.read_text(), re.MULTILINE)
    assert head
    added = "alembic/versions/2099-01-01_0000_add_weight.py"
    (developer.root / added).write_text(MIGRATION.format(head[1]))
    developer.wait_until(lambda: f"changed {added}: restarting" in developer.log.read_text())

    developer.edit('"Changed', '"Mended"')
    developer.wait_until(lambda: developer.title() == "Mended")
    assert "migration_pending" in developer.log.read_text()
    developer.wait_until(lambda: developer.status("/health/ready") == 503)

    developer.process.terminate()
    assert exit_code(developer.process, within=PATIENCE_SECONDS) == 0
    with pytest.raises(httpx2.ConnectError):
        developer.title()


def test_production_is_not_developed_in() -> None:
    key = "kZ8q-Jd02-mfPw71-xLcv93-bTyh55-Ru4e"
    settings_of = {"ENVIRONMENT": "production", "ALLOWED_HOSTS": "a.example", "SECRET_KEY": key}
    refused = call_command("dev", **settings_of)
    assert refused.returncode == 1
    assert refused.stderr == (
        "specimen: dev is for development, and ENVIRONMENT is production: specimen serve\n"
    )
