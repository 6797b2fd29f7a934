"""Users' data: trajectories from NPZ, HDF5, netCDF, Zarr and CSV files, or from arrays (numpy only)."""

from .files import read_arrays
from .reading import check_names, fields_apart, joined, read_trajectories
from .trajectories import SAME_START, Scattered, Trajectories, check_solutions

__all__ = [
    "SAME_START",
    "Scattered",
    "Trajectories",
    "check_names",
    "check_solutions",
    "fields_apart",
    "joined",
    "read_arrays",
    "read_trajectories",
]
