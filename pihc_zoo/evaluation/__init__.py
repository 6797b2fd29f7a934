"""Measuring a model: against converged truth, and against the fastest classical solver at equal error.

Every function returns plain dicts of JSON types. Errors are relative L2 norms over all times and
points, dimensionless; times are milliseconds per trajectory on one CPU thread (or one GPU), answers
on the problem's native output grid and back in host memory.
"""

from ..families import FAMILIES
from ..sampling import default_families, family_of
from .calibration import calibrated, ratios_of, with_trust
from .classical import benchmark, cheapest, compare, compare_backends
from .clocks import environment, one_thread, peak_memory, timing, timings
from .ingredients import accuracy, default_batch, ladder, unsolved, untrained
from .parameters import by_parameter
from .references import (
    ReferenceSet,
    end_error,
    fine_reference_set,
    reference_set,
    relative_at,
    relative_error,
)
from .reliability import out_of_family, spearman, trust
from .report import evaluate
from .rollouts import roll_out

__all__ = [
    "FAMILIES",
    "ReferenceSet",
    "accuracy",
    "benchmark",
    "by_parameter",
    "calibrated",
    "cheapest",
    "compare",
    "compare_backends",
    "default_batch",
    "default_families",
    "end_error",
    "environment",
    "evaluate",
    "family_of",
    "fine_reference_set",
    "ladder",
    "one_thread",
    "out_of_family",
    "peak_memory",
    "ratios_of",
    "reference_set",
    "relative_at",
    "relative_error",
    "roll_out",
    "spearman",
    "timing",
    "timings",
    "trust",
    "unsolved",
    "untrained",
    "with_trust",
]
