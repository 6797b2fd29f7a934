"""Time and memory, and where they were measured."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Context: torch computes on one CPU thread, as the classical solvers do."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


Clock = Callable[[], float]


def timing(
    call: Callable[[], Any], repeats: int = 5, device: Any = "cpu", clock: Clock = time.perf_counter
) -> dict[str, Any]:
    """Seconds of ``call``, after one call to warm up: median, lower quartile, lowest, highest, repeats."""
    return timings({"call": call}, repeats, device, clock)["call"]


def timings(
    calls: dict[Any, Callable[[], Any]], repeats: int = 5, device: Any = "cpu", clock: Clock = time.perf_counter
) -> dict[Any, dict[str, Any]]:
    """`timing` of several calls in turn, so that a change of the machine's load meets all of them."""
    synchronise = torch.cuda.synchronize if torch.device(device).type == "cuda" else lambda: None
    seconds: dict[Any, list[float]] = {name: [] for name in calls}
    with one_thread():
        for repeat in range(repeats + 1):
            for name, call in calls.items():
                synchronise()
                begin = clock()
                call()
                synchronise()
                if repeat:
                    seconds[name].append(clock() - begin)
    return {
        name: {
            "median": float(np.median(values)),
            "quartile": float(np.quantile(values, 0.25)),
            "lowest": float(min(values)),
            "highest": float(max(values)),
            "repeats": repeats,
        }
        for name, values in seconds.items()
    }


def per_trajectory(time: dict[str, Any], count: int) -> dict[str, float]:
    """ms, ms_lowest and ms_highest per trajectory of a `timing` of ``count`` of them."""
    return {
        "ms": 1e3 * time["median"] / count,
        "ms_lowest": 1e3 * time["lowest"] / count,
        "ms_highest": 1e3 * time["highest"] / count,
    }


def peak_memory(call: Callable[[], Any], device: Any = "cpu") -> float | None:
    """MB (1e6 bytes) that ``call`` holds at most beyond what was held before; None where unknown."""
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return None

    def resident() -> float:
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    with contextlib.suppress(OSError, AttributeError):  # freed memory that the allocator keeps would hide new use
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    before = peak = resident()
    is_done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not is_done.wait(0.002):
            peak = max(peak, resident())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        call()
        peak = max(peak, resident())
    finally:
        is_done.set()
        watcher.join()
    return peak - before


def environment(device: Any = "cpu") -> dict[str, Any]:
    """Where a measurement was made: device, threads, versions."""
    is_cuda = torch.device(device).type == "cuda"
    processor = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        processor = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), processor)
    return {
        "device": torch.cuda.get_device_name(device) if is_cuda else processor,
        "is_cuda": is_cuda,
        "threads": 1,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
