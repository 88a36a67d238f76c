"""Linear algebra over many rows: blocks, factors, doubled digits."""
