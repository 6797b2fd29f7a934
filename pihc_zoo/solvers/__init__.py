"""Batched nonlinear least squares and its adjoint. Nothing here knows a PDE."""
