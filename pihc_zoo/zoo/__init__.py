"""Configurations, weights, names and the Hub."""
