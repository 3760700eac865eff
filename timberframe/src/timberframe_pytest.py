"""The pytest plugin: it sets the environment before a project's application is imported.

It does nothing in a project whose `pyproject.toml` has no table `[tool.timberframe]`, and imports
nothing of the frame there.
"""

import gc
import os
import secrets
import sys
import tomllib
from pathlib import Path
from typing import Any, cast

import pytest

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
    gc.disable()  # until all is imported
    # Without it a check that fails would show no values.
    pytest.register_assert_rewrite("timberframe.testing.checks")
    early_config.pluginmanager.import_plugin("timberframe.testing.plugin")


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
