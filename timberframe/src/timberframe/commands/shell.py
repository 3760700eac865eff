"""`shell`: Python with a session, a client, the models and the cruds at hand, and `await`."""

import ast
import asyncio
import code
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from importlib.util import find_spec
from inspect import isawaitable
from types import CodeType, FunctionType
from typing import Any

import structlog
from sqlalchemy import func, select

from timberframe.crud import CRUDBase
from timberframe.data.base import Base
from timberframe.data.options import DatabaseOptions
from timberframe.data.sandbox import open_sandbox
from timberframe.data.session import Database, end_unit
from timberframe.data.unit_of_work import UnitOfWork
from timberframe.errors import CommandError
from timberframe.http.advice import advise
from timberframe.logging import write_own_frames

_FLAGS = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT


class Shell:
    """Runs code against an application; each input is a unit of work.

    All of it runs in one event loop, but each input in a task of its own.
    """

    def __init__(self, app: Any, *, caller: str | None, is_sandbox: bool) -> None:
        self.app = app
        self.caller = caller
        self.is_sandbox = is_sandbox
        self.names: dict[str, Any] = {"app": app, "settings": app.state.settings}
        self.names |= {"select": select, "func": func, **_models(), **_cruds(app)}
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()

    def __enter__(self) -> "Shell":
        try:
            self._runner.run(self._open())
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *failure: object) -> None:
        with self._runner:  # closes it
            self._runner.run(self._stack.aclose())

    async def _open(self) -> None:
        settings = self.app.state.settings
        await self._stack.enter_async_context(self.app.router.lifespan_context(self.app))
        # Requests of `client` would be logged between the lines that are typed. Loggers do not keep
        # this: in a test the process goes on.
        errors_only = structlog.make_filtering_bound_logger("ERROR")
        structlog.configure(wrapper_class=errors_only, cache_logger_on_first_use=False)
        if self.is_sandbox:
            sandbox = open_sandbox(DatabaseOptions.of(settings))
            self.app.state.database = await self._stack.enter_async_context(sandbox)
        database: Database = self.app.state.database
        self.db: UnitOfWork = await self._stack.enter_async_context(database.session())
        self.names |= {"database": database, "db": self.db}
        self.names["client"] = await self._client()

    async def _client(self) -> Any:
        """A client of the application in this process; its paths are below the API's prefix."""
        headers = {}
        state = self.app.state
        if self.caller:
            async with state.database.reading() as db:
                user = await state.accounts.get_by_login(db, login=self.caller)
            if user is None or not user.is_active:
                raise CommandError(f"there is no active account {self.caller}")
            headers["Authorization"] = f"Bearer {state.tokens.create(user.id)}"
        try:
            import httpx2
        except ImportError:
            return _Missing("client needs httpx2: install timberframe[dev]")
        host = next(iter(state.settings.ALLOWED_HOSTS), "localhost")
        client = httpx2.AsyncClient(
            transport=httpx2.ASGITransport(self.app),
            base_url=f"http://{host}{state.settings.API_V1_PREFIX}",
            headers=headers,
        )
        return await self._stack.enter_async_context(client)

    def run(self, function: Callable[[], Any]) -> None:
        """Call it; commit, or roll back if it fails."""
        self._runner.run(self._run(function))

    async def _run(self, function: Callable[[], Any]) -> None:
        is_kept = False
        try:
            if isawaitable(awaitable := function()):
                await awaitable
            is_kept = True
        finally:
            await end_unit(self.db, is_kept=is_kept)

    def run_source(self, source: str) -> bool:
        """Run a program; print the traceback of what it raises, and return whether it succeeded."""
        try:
            program = compile(source, "<shell>", "exec", flags=_FLAGS)
            self.run(FunctionType(program, self.names))
        except Exception as failed:
            _show(failed)
            return False
        return True

    def interact(self) -> None:
        """Read, run and print until the input ends."""
        if find_spec("IPython") is None:
            Console(self).interact(banner=self.banner, exitmsg="")
            return
        from IPython.terminal.embed import InteractiveShellEmbed

        ipython = InteractiveShellEmbed(user_ns=self.names, banner1=f"{self.banner}\n")
        ipython.autoawait = True
        ipython.loop_runner = self._run_of_ipython
        ipython.events.register("post_run_cell", self._end_cell)
        ipython()

    def _run_of_ipython(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(coroutine)

    def _end_cell(self, result: Any) -> None:
        self._runner.run(end_unit(self.db, is_kept=result.success))

    @property
    def prompt(self) -> str:
        settings, engine = self.app.state.settings, self.names["database"].engine
        return f"{settings.project.name} {settings.ENVIRONMENT} {engine.dialect.name}"

    @property
    def banner(self) -> str:
        settings = self.app.state.settings
        engine = self.names["database"].engine
        end = (
            "Sandbox: everything is rolled back at the end."
            if self.is_sandbox
            else "Each input is committed, or rolled back if it fails."
        )
        client = f"client ({self.caller})" if self.caller else "client"
        return "\n".join(
            (
                f"{settings.project.name} {settings.VERSION}, {settings.ENVIRONMENT}, "
                f"{engine.dialect.name} {engine.url.database}",
                f"{end} `await` works as in a coroutine.",
                f"At hand: db, {client}, database, settings, app, select, func",
                f"  {' '.join(_models())}",
                f"  {' '.join(_cruds(self.app))}",
            )
        )


class Console(code.InteractiveConsole):
    """Python's own console, which runs each input by `shell`."""

    def __init__(self, shell: Shell) -> None:
        super().__init__(shell.names, filename="<shell>")
        self.compile.compiler.flags |= _FLAGS
        self._shell = shell
        sys.ps1 = f"{shell.prompt} >>> "
        sys.ps2 = f"{'.' * (len(sys.ps1) - 1)} "
        _complete(shell.names)

    def runcode(self, code: CodeType) -> None:
        try:
            self._shell.run(FunctionType(code, self._shell.names))
        except SystemExit:
            raise
        except KeyboardInterrupt:
            self.write("\nKeyboardInterrupt\n")
        except Exception as failed:
            _show(failed)


def _show(failed: Exception) -> None:
    advise(failed)
    write_own_frames(sys.stderr, (type(failed), failed, failed.__traceback__))


class _Missing:
    """Says what is missing when it is first used."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def __getattr__(self, name: str) -> Any:
        raise CommandError(self._reason)


def _complete(names: dict[str, Any]) -> None:
    try:
        import readline
        import rlcompleter
    except ImportError:  # Python may be built without it
        return
    readline.set_completer(rlcompleter.Completer(names).complete)
    readline.parse_and_bind("tab: complete")


def _models() -> dict[str, Any]:
    """The application's models, by the names of their classes."""
    classes = (mapper.class_ for mapper in Base.registry.mappers)
    named = {each.__name__: each for each in classes if not _is_of_frame(each.__module__)}
    return dict(sorted(named.items()))


def _cruds(app: Any) -> dict[str, Any]:
    """The cruds in the modules of the application, by the names of their variables."""
    return dict(sorted(_variables(type(app.state.settings).__module__.partition(".")[0])))


def _variables(package: str) -> Iterator[tuple[str, Any]]:
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == package:
            yield from (pair for pair in vars(module).items() if isinstance(pair[1], CRUDBase))


def _is_of_frame(module: str) -> bool:
    return module.partition(".")[0] == "timberframe"
