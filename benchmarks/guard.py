"""`python -m benchmarks.guard`: fails when reads have become clearly dearer, as a ratio, in CI.

No absolute time is looked at: in the same moments of the same machine the guide's own code answers
the same requests, and so does myapi with one ORM read more, which has to fail, or the guard would
notice nothing.
"""

import secrets
import signal
import statistics
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.__main__ import target_of
from benchmarks.answers import check_equal
from benchmarks.database import OPENERS
from benchmarks.install import install_guide
from benchmarks.load import measure, open_loader
from benchmarks.servers import Server, serve
from benchmarks.systems import BASELINE, BIN, MYAPI_ENVIRONMENT, SYSTEMS, System
from benchmarks.work import READS

# Below seven tenths of what was measured is a step back; raise the bounds when reads have become
# cheaper.
NOTICED = 0.7
LEAST_TIMES_CHEAPER = {"item": 2.5, "list": 5.5, "me": 2.0}

PRODUCTS = 200
ROUNDS = 5
SECONDS = 0.1
WARM_UP_SECONDS = 0.05

[MYAPI] = (each for each in SYSTEMS if each.is_ours and each.engine == BASELINE.engine)
SLOWED = System(
    name="myapi, slowed",
    engine=BASELINE.engine,
    runtime="myapi",
    command=(
        *(str(BIN / "granian"), "benchmarks.slowed:app", "--interface", "asgi"),
        *("--loop", "uvloop", "--no-ws", "--port", "{port}"),
    ),
    environment=MYAPI_ENVIRONMENT,
    signs_in=True,
)
WORK = [work for work in READS if work.key in LEAST_TIMES_CHEAPER]

# By the key of the work and the name of the system.
Costs = Mapping[tuple[str, str], Sequence[float]]


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    install_guide()
    costs = measure_costs()
    failures = 0
    for work in WORK:
        least = LEAST_TIMES_CHEAPER[work.key]
        times = times_cheaper(costs, work.key, MYAPI.name)
        slowed = times_cheaper(costs, work.key, SLOWED.name)
        print(
            f"{work.name}: {times:.1f} times cheaper than the guide's way, at least {least} "
            f"wanted; {slowed:.1f} with an ORM read more"
        )
        if times < least:
            print("  FAILED: a clear step back")
            failures += 1
        if slowed >= NOTICED * times:
            print("  FAILED: a step back of that size would not be noticed")
            failures += 1
    sys.exit(failures > 0)


def measure_costs() -> Costs:
    secret_key = secrets.token_urlsafe(48)
    with ExitStack() as stack:
        loader = stack.enter_context(open_loader())
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="myapi-guard-")))
        opened = OPENERS[BASELINE.engine](folder, PRODUCTS, secret_key)
        database = stack.enter_context(opened)
        servers = [
            stack.enter_context(serve(system, database, secret_key, folder))
            for system in (BASELINE, MYAPI, SLOWED)
        ]
        check_equal(servers, WORK, PRODUCTS)
        return measure_rounds(servers, loader)


def measure_rounds(servers: Sequence[Server], loader: Executor) -> Costs:
    costs: dict[tuple[str, str], list[float]] = defaultdict(list)
    for _ in range(ROUNDS):
        for work in WORK:
            for server in servers:
                target = target_of(server, work, PRODUCTS)
                job = loader.submit(measure, target, SECONDS, WARM_UP_SECONDS)
                costs[work.key, server.system.name].append(job.result().cpu_us)
    return costs


def times_cheaper(costs: Costs, work: str, system: str) -> float:
    """Between medians, since now and then another process falls on one round of one system."""
    return statistics.median(costs[work, BASELINE.name]) / statistics.median(costs[work, system])


if __name__ == "__main__":
    main()
