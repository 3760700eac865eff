"""The specimen's command as it is at a terminal."""

import os
import pty
import select
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.context import ForkServerProcess

from timberframe.testing import environment
from timberframe.testing.forked import fork_command
from timberframe.testing.process import START_SECONDS

# Or a password would be asked for at the terminal of whoever runs the tests.
ON_ITS_OWN = "import os; os.setsid()\n"


@contextmanager
def at_terminal(
    *arguments: str, before: str = "", **settings: str
) -> Iterator[tuple[ForkServerProcess, int]]:
    """The command in a process of its own that has said something, and our side of its terminal.

    `before` and `settings` are those of `run_command`. The process is killed in the end.
    """
    ours, theirs = pty.openpty()
    process = fork_command(
        *arguments,
        environment=environment(**settings),
        before=f"{ON_ITS_OWN}{before}",
        files=[os.ttyname(theirs)] * 3,
    )
    try:
        assert select.select([ours], [], [], START_SECONDS)[0]
        os.close(theirs)  # the process alone has it open: its end is that of what we read
        yield process, ours
    finally:
        process.kill()
        process.join()
        os.close(ours)
