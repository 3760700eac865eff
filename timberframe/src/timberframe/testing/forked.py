"""Processes forked from one that has imported the frame, which takes most of a second.

What is the project's own is imported in each of them: with the settings in its environment.
"""

import gc
import multiprocessing
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from multiprocessing.context import ForkServerProcess
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from timberframe.testing.subject import project

# What an application and its command import in any case; no tables that only some of them have.
_IMPORTED = (
    "timberframe.app",
    "timberframe.cli",
    "timberframe.crud",
    "timberframe.jobs.process",
    "timberframe.models",
    "timberframe.routes",
    "timberframe.schemas",
    "timberframe.server",
    "timberframe.testing.forked",  # which each process imports to be told what to do
    "sqlalchemy.dialects.postgresql.asyncpg",
    "sqlalchemy.dialects.sqlite.aiosqlite",
    "uvloop",
)
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload([*_IMPORTED])


def fork(work: Callable[..., None], *arguments: Any, daemon: bool = False) -> ForkServerProcess:
    """A process that runs `work`, a function of a module, and ends as `work` returns or raises.

    `daemon` as in `multiprocessing`: it is killed with this process, and may not start others.
    """
    process = _context.Process(target=work, args=arguments, daemon=daemon)
    process.start()
    return process


def fork_command(
    *arguments: str,
    environment: Mapping[str, str],
    before: str = "",
    files: Sequence[Path | str],
) -> ForkServerProcess:
    """The project's command in a process of its own, which runs the code `before` first.

    `files` are those of its standard input, output and errors.
    """
    called = [project().name, *arguments]
    return fork(_run_command, project().command, called, dict(environment), before, files)


def exit_code(process: BaseProcess, *, within: float) -> int:
    """Wait for the end of a process, at most so many seconds; then kill it and raise TimeoutError.

    The code is negative if a signal ended it.
    """
    process.join(within)
    if process.exitcode is None:
        process.kill()
        raise TimeoutError(f"a process has not ended within {within} seconds")
    return process.exitcode


def _run_command(
    command: str,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    before: str,
    files: Sequence[Path | str],
) -> None:
    gc.freeze()  # shared with the other processes, as long as nothing is written there
    gc.enable()
    multiprocessing.set_start_method(None, force=True)  # the default, not that of this process
    for number, file in enumerate(files):
        opened = os.open(file, os.O_APPEND | (os.O_WRONLY if number else os.O_RDONLY))
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin = os.fdopen(0, closefd=False)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.argv = [*arguments]
    exec(before, {})  # noqa: S102 - the test's own
    module, _, function = command.partition(":")
    getattr(import_module(module), function)()
