"""A process of a queue, by the Python that has it: `… process MODULE work`, or `produce`."""

import json
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from importlib import import_module

import uvloop

COUNTERS = 1_000
CONCURRENCY = 8  # jobs that a worker runs at once; our default

INCREMENT = "UPDATE counters SET value = value + 1, begun_at = $1 WHERE id = $2"

Enqueue = Callable[[int], Awaitable[object]]  # a job that increments the counter of this id


async def produce(
    open_producer: Callable[[], AbstractAsyncContextManager[Enqueue]],
) -> None:
    """For each number that is read, enqueue as many jobs; print when that began and ended."""
    number = 0
    async with open_producer() as enqueue:
        for line in sys.stdin:
            began = time.time()
            for _ in range(int(line)):
                await enqueue(number % COUNTERS + 1)
                number += 1
            print(json.dumps([began, time.time()]), flush=True)


if __name__ == "__main__":
    module, role = sys.argv[1:]
    queue = import_module(module)
    uvloop.run(queue.work() if role == "work" else produce(queue.open_producer))
