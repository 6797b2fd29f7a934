"""Differentiation and transforms along an axis."""
