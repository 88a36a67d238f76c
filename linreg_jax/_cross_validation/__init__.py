"""Scores on examples that a fit has not seen."""
