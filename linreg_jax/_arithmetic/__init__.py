"""Arithmetic on rows of arrays: blocks, double words, exact centring, division by what may be 0."""
