"""The machine: which core does what, and what a process has used of it."""

import os
import platform
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import psutil


def split_cores() -> tuple[set[int], set[int]]:
    """One core for the server that is measured, the others for all that must not disturb it."""
    if not hasattr(os, "sched_getaffinity"):
        return set(), set()
    first, *others = sorted(os.sched_getaffinity(0))
    return ({first}, set(others)) if others else (set(), set())


SERVER_CORES, OTHER_CORES = split_cores()


def pin(pid: int, cores: set[int]) -> None:
    """Keep a process, and those it has started or will start, on these cores, if there are any."""
    if cores:
        for process in process_tree(pid):
            with suppress(psutil.NoSuchProcess):  # a short-lived child
                process.cpu_affinity(list(cores))


def process_tree(pid: int) -> list[psutil.Process]:
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def cpu_seconds(pid: int) -> dict[int, float]:
    """User and system time of all threads of each process of a tree."""
    used = {}
    for process in process_tree(pid):
        with suppress(OSError, psutil.NoSuchProcess):  # it has just ended
            used[process.pid] = _cpu_seconds(process)
    return used


def cpu_seconds_since(before: Mapping[int, float], pid: int) -> float:
    """By the processes that are there now: what they used, or all of a new one's."""
    return sum(used - before.get(each, 0) for each, used in cpu_seconds(pid).items())


def _cpu_seconds(process: psutil.Process) -> float:
    if sys.platform == "linux":
        # The process's CPU clock, as clock_getcpuclockid(3) finds it: /proc counts in steps of
        # 10 ms, too coarse for a few slow requests.
        return time.clock_gettime((~process.pid << 3) | 2)
    used = process.cpu_times()
    return float(used.user + used.system)


def memory_bytes(processes: Iterable[psutil.Process]) -> int:
    return sum(process.memory_info().rss for process in processes)


def describe() -> str:
    pinned = "the server on one, all else on the rest" if SERVER_CORES else "nothing pinned"
    return f"{_cpu_model()}, {os.cpu_count()} cores ({pinned}), {platform.system()}"


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
