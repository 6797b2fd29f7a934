"""Where the time of a few steps goes: torch.profiler, as a table and as a trace."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, schedule

from pihc_zoo.files import atomic_path, write_text

STEPS, BEFORE = 5, 3  # profiled, and left out before them
TABLE, TRACE = "profile.txt", "profile.json"


class Profile:
    """Context of a training loop, told of every step; writes profile.txt and profile.json after a few of them.

    Args:
        folder: to write into; None profiles nothing.
    """

    def __init__(self, folder: Path | None):
        self.folder, self._profiler = folder, None
        if folder is not None:
            activities = [ProfilerActivity.CPU]
            activities += [ProfilerActivity.CUDA] if torch.cuda.is_available() else []
            when = schedule(wait=BEFORE - 1, warmup=1, active=STEPS, repeat=1)
            self._profiler = torch.profiler.profile(
                activities=activities, schedule=when, on_trace_ready=self._write, acc_events=True
            )

    def __enter__(self) -> Profile:
        if self._profiler is not None:
            self._profiler.__enter__()
        return self

    def __exit__(self, *raised) -> None:
        if self._profiler is not None:
            self._profiler.__exit__(*raised)

    def step(self) -> None:
        """A step ended."""
        if self._profiler is not None:
            self._profiler.step()

    def _write(self, profiler) -> None:
        key = "self_cuda_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
        averages = profiler.key_averages()
        count = sum(event.count for event in averages if event.key.startswith("aten::")) / STEPS
        text = f"{STEPS} steps, {count:.0f} operations each\n{averages.table(sort_by=key, row_limit=40)}\n"
        write_text(self.folder / TABLE, text)
        with atomic_path(self.folder / TRACE) as temporary:
            profiler.export_chrome_trace(str(temporary))
