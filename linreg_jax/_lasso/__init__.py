"""Squared losses with a lasso: their minimum, its path, its derivative."""
