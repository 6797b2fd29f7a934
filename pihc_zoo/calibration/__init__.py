"""Calibration: physical parameters, or an initial field, from measurements.

measurements → unknowns → readings → least squares → intervals, verdict → fit → posterior, plot
"""
