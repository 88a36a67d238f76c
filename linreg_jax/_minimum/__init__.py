"""Minima of losses that are not squared."""
