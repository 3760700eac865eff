"""`dev`: serve, and start again when a file changes.

Run as a program of its own that imports the frame once and the application never: each start is a
fork of it, which has only the application left to import.
"""

import gc
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import NoReturn

import structlog
from rich.console import Console

import timberframe
from timberframe.commands.loading import importing, load
from timberframe.errors import AppError
from timberframe.logging import write_own_frames
from timberframe.project import Project

POLL_SECONDS = 0.2
SETTLE_SECONDS = 0.05  # an editor that saves several files is not done with the first
STOP_SECONDS = 5
_FRAME = Path(timberframe.__file__).parent
# Most of a start is the import of these.
_WARM = ("app", "server", "routes", "migrations", "accounts", "data.start", "bulk.console")
_WATCHED = (".env", "pyproject.toml")
_PASSED_OVER = ("tests", "node_modules", "__pycache__")

Snapshot = dict[Path, tuple[int, int]]

console = Console(stderr=True, highlight=False, soft_wrap=True)


def start(root: Path, arguments: Sequence[str]) -> NoReturn:
    """Replace this process; `arguments` are those of `serve`."""
    os.environ.setdefault("FASTAPI_ENV", "development")  # FastAPI's own name for it
    # A reload waits for nobody.
    os.environ.setdefault("GRACEFUL_TIMEOUT_SECONDS", "1")
    program = [sys.executable, "-m", "timberframe.commands.dev", str(root), *arguments]
    os.execv(sys.executable, program)  # noqa: S606 - ourselves


def main(root: Path, arguments: Sequence[str]) -> None:
    """Serve until stopped."""
    project = Project.find(root)
    # Until the server configures its own log, as `cli.run` does.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("ERROR"))
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, _exit)
    with importing():
        for name in _WARM:
            import_module(f"timberframe.{name}")
    gc.freeze()  # the processes that are forked share what nobody looks through again
    # Only now: a migration that appears later is for its author to read first.
    further = ["--migrate"]
    while True:
        seen = take_snapshot(project)
        child = _fork(project, [*arguments, *further])
        further = []
        try:
            changed = _wait(project, seen, child)
            console.print(f"[bold]changed[/] {_shown(changed, project)}: restarting")
        finally:
            _stop(child)
        if any(each.is_relative_to(_FRAME) for each in changed):
            start(root, arguments)  # what was imported once is no longer what is there


def take_snapshot(project: Project) -> Snapshot:
    """The times and sizes of all files that may change what is served."""
    files = [*_python_files(project.root), *(project.root / name for name in _WATCHED)]
    if not _FRAME.is_relative_to(project.root) and "site-packages" not in _FRAME.parts:
        files += _python_files(_FRAME)
    snapshot = {}
    for file in files:
        try:
            status = file.stat()
        except OSError:  # there is none, or no longer
            continue
        snapshot[file] = (status.st_mtime_ns, status.st_size)
    return snapshot


def _python_files(root: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        folders[:] = [
            name
            for name in folders
            if not (name.startswith(".") or name in _PASSED_OVER)
            and not os.path.exists(os.path.join(folder, name, "pyvenv.cfg"))
        ]
        yield from (Path(folder, name) for name in files if name.endswith(".py"))


def _fork(project: Project, arguments: Sequence[str]) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        for stop in (signal.SIGTERM, signal.SIGINT):
            signal.signal(stop, signal.SIG_DFL)
        # A warning of a coroutine that was never awaited then says where it was made.
        sys.set_coroutine_origin_tracking_depth(1)
        sys.argv = [project.name, "serve", "--workers", "1", *arguments]
        code = _run(project)
    finally:
        sys.stdout.flush()
        os._exit(code)


def _run(project: Project) -> int:
    """Run the project's command; return its exit code."""
    try:
        load(project.command)()
    except SystemExit as ended:
        if not isinstance(ended.code, str):
            return ended.code or 0
        _explain(ended, ended.code)
    except AppError as refused:
        _explain(refused, refused.detail)
    return 1


def _explain(ended: BaseException, what: str) -> None:
    """Say what is wrong, under the lines of code that led to it, if there are any."""
    cause = ended
    while further := cause.__cause__ or cause.__context__:
        cause = further
    if not isinstance(cause, (SystemExit, AppError)):
        write_own_frames(sys.stderr, (type(cause), cause, cause.__traceback__))
    console.print(what, style="red", markup=False)


def _wait(project: Project, seen: Snapshot, child: int) -> list[Path]:
    """Wait for a change; return the files that changed. Meanwhile the child may end."""
    is_running = True
    while True:
        time.sleep(POLL_SECONDS)
        now = take_snapshot(project)
        if now != seen:
            while (later := _settled(project)) != now:
                now = later
            return sorted(f for f in now.keys() | seen.keys() if now.get(f) != seen.get(f))
        if is_running and _has_ended(child):
            is_running = False
            console.print("[bold]waiting[/] for a change of a file …")


def _settled(project: Project) -> Snapshot:
    time.sleep(SETTLE_SECONDS)
    return take_snapshot(project)


def _has_ended(child: int) -> bool:
    try:
        ended, _ = os.waitpid(child, os.WNOHANG)
    except ChildProcessError:
        return True
    return bool(ended)


def _stop(child: int) -> None:
    if _has_ended(child):
        return
    os.kill(child, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while not _has_ended(child):
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.01)


def _exit(number: int, frame: FrameType | None) -> None:
    sys.exit()


def _shown(changed: list[Path], project: Project) -> str:
    first = changed[0]
    name = first.relative_to(project.root) if first.is_relative_to(project.root) else first
    more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
    return f"{name}{more}"


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
