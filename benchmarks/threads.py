"""How many threads everybody gets; set before NumPy, PyTorch and JAX are imported."""

import os

_VARIABLES = (
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    # As many CPU devices as cores, for rows laid over them; one device still uses every core.
    "JAX_NUM_CPU_DEVICES",
)


def usable_cores() -> int:
    """How many cores this process may run on; `taskset` and the like make it fewer."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def one_thread_a_core() -> None:
    """Sets the environment that the libraries read when they are imported."""
    os.environ.update(dict.fromkeys(_VARIABLES, str(usable_cores())))
