"""The command ``pihc``: list, info, predict, evaluate, demo and more; a module per command."""

from .console import main

__all__ = ["main"]
