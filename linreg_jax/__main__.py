"""`python -m linreg_jax`: the mathematics at work on Hubble's table of 1929."""

import jax

from linreg_jax import gradients, mae, mse
from linreg_jax.data import load_hubble
from linreg_jax.model import init_params


def main():
    """Prints the gradients of two losses, four ways each."""
    data = load_hubble()
    params = init_params(data)
    for loss in (mse, mae):
        for way in ("autodiff", "vectorized", "by_loops", "finite_difference"):
            value, gradient = jax.jit(getattr(gradients, way)(loss))(params, data)
            slope, intercept = gradient.weights[0], gradient.bias
            print(f"{loss!s:4} {way:18} {value:12.3f} {slope:12.3f} {intercept:12.3f}")


if __name__ == "__main__":
    main()
