"""More trajectories than memory holds: read by slices, written chunk by chunk, shared by processes."""

from .run import Summary, predict_many

__all__ = ["Summary", "predict_many"]
