"""Arithmetic that every room does the same way."""

import jax
import jax.numpy as jnp


def matmul(a, b):
    """`a @ b`, with float32 products computed in float32 on every device.

    GPUs may round float32 factors to TF32 and TPUs to bfloat16 unless they are told not to. To ask
    for less, wrap the call in `jax.default_matmul_precision("default")` (or `"bfloat16"`, ...).
    """
    chosen = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]  # set at run time
    return jnp.matmul(a, b, precision="highest" if chosen is None else None)


def per_example(values, like):
    """`values` [n] (or []) shaped to multiply `like` [n] or [n, k] example by example."""
    return values[:, None] if values.ndim == 1 and like.ndim == 2 else values
