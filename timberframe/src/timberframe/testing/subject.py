"""The subject of the tests: the application named by `[tool.fastapi] entrypoint`."""

import importlib.util
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import pytest
from fastapi import FastAPI
from limits import RateLimitItem

from timberframe.data.options import DatabaseOptions
from timberframe.project import Project
from timberframe.security.tokens import Tokens
from timberframe.settings import Settings

_root: Path | None = None


def use_project_in(root: Path) -> None:
    """Tell the kit which project is tested: pytest's plugin does; otherwise it is the one here."""
    global _root
    _root = root


@cache
def project() -> Project:
    return Project.find(_root or Path.cwd())


@cache
def app() -> FastAPI:
    return cast(FastAPI, _load(_entrypoint()))


def create_app() -> FastAPI:
    """Another application of the same project, with its settings as they are now."""
    module, _, name = _entrypoint().partition(":")
    spec = importlib.util.find_spec(module)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(module)
    again = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(again)
    return cast(FastAPI, getattr(again, name))


def stated_routes() -> tuple[Any, ...]:
    """What the table of routes consists of, beside the resources in test modules."""
    target = _tools()["timberframe"].get("routes", "tests.routes:ROUTES")
    return cast(tuple[Any, ...], _load(target))


def skipped_checks() -> dict[str, str]:
    """The reason for each check that the project skips, by the name of its function."""
    return cast(dict[str, str], _tools()["timberframe"].get("skipped_checks", {}))


def _load(target: str) -> Any:
    module, _, name = target.partition(":")
    return getattr(import_module(module), name)


def _tools() -> dict[str, Any]:
    return cast(dict[str, Any], tomllib.loads(project().pyproject.read_text())["tool"])


def _entrypoint() -> str:
    return str(_tools()["fastapi"]["entrypoint"])


def main() -> None:
    """Run the project's command in this process, with the arguments in `sys.argv`."""
    _load(project().command)()


def app_package() -> str:
    """The package that the application's modules are in, such as `app`."""
    app()
    return _entrypoint().partition(":")[0].partition(".")[0]


def settings() -> Settings:
    return cast(Settings, app().state.settings)


def tokens() -> Tokens:
    return cast(Tokens, app().state.tokens)


def database_options() -> DatabaseOptions:
    return DatabaseOptions.of(settings())


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """The application runs within it: its database is open.

    Streams of live events end when they have sent what there is: a client in the same process gets
    an answer when it is whole.
    """
    async with app.router.lifespan_context(app):
        app.state.event_streams.close()
        yield


def change_state(app: FastAPI, monkeypatch: pytest.MonkeyPatch, name: str, **changes: Any) -> None:
    """Change fields of what the application keeps as `name`, such as `options` and `tokens`."""
    state = app.state._state
    monkeypatch.setitem(state, name, replace(state[name], **changes))


def set_limits(app: FastAPI, monkeypatch: pytest.MonkeyPatch, **limits: RateLimitItem) -> None:
    """Change limits of sign-ins and sign-ups, by their names in `SignInLimits`."""
    change_state(app, monkeypatch, "sign_in_limits", **limits)
