"""Benchmarks of linreg_jax against what a good engineer would write by hand.

`python -m benchmarks` prints one table a scenario. Competitors agree on the result before they are
timed, compute in the same dtype with the same number of threads, and take turns; compiling and
moving data are rows of their own; rows where this package loses stay in.
"""
