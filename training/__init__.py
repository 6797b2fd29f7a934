"""Training of the zoo's models; runs from a checkout: ``python -m training RECIPE``."""
