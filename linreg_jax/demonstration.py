"""The mathematics at work on Hubble's nebulae of 1929: gradients, a verdict, a fit, the answer."""

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from linreg_jax._typing import Array, Float
from linreg_jax.checking import check_gradients
from linreg_jax.data import load_hubble
from linreg_jax.dataset import Dataset
from linreg_jax.diagnosis import Diagnosis, diagnose
from linreg_jax.exact import solve, solve_line
from linreg_jax.gradients import autodiff, by_loops, finite_difference, vectorized
from linreg_jax.losses import mae, mse
from linreg_jax.model import Params, init_params
from linreg_jax.training import Fit, Status, fit

Result = TypeVar("Result")

WAYS = {
    "autodiff": autodiff,
    "vectorized": vectorized,
    "by_loops": by_loops,
    "finite_difference": finite_difference,
}
NUM_STEPS = 100
SHOWN_STEPS = (0, 1, 2, 5, 10, 20, 50, NUM_STEPS)
WIDTH = 80


def demonstrate(*, seed: int | None = None) -> int:
    """Prints the whole story, in the default float (float64 where x64 is on).

    Args:
      seed: of the random parameters to start from; None: zeros.

    Returns:
      0 where every gradient agrees and the fit reaches the exact answer, 1 where not.

    Raises:
      FileNotFoundError, ValueError: the embedded data is missing or damaged.

    Example:
      >>> demonstrate(seed=0)
      Hubble 1929: the velocity of 24 nebulae by their distance
      ...
      solve_line (means) ...
      0
    """
    data = load_hubble()
    start = init_params(data, key=None if seed is None else jax.random.key(seed), scale=100.0)
    print("Hubble 1929: the velocity of 24 nebulae by their distance")
    print(f"velocity [km/s] = slope [km/s/Mpc] * distance [Mpc] + intercept, in {data.X.dtype}")
    agrees = _show_gradients(start, data)
    diagnosis = _show_diagnosis(data)
    result = _show_training(start, data, diagnosis)
    reached = _show_answer(result.params, data)
    return 0 if agrees and reached else 1


def _heading(text: str, seconds: float) -> None:
    took = f" {seconds:.2f} s"
    print(f"\n{text} {'-' * (WIDTH - len(text) - len(took) - 1)}{took}")


def _timed(function: Callable[..., Result], *arguments: object) -> tuple[Result, float]:
    """What the function returns, ready, and the seconds it took."""
    began = time.perf_counter()
    result = jax.block_until_ready(function(*arguments))
    return result, time.perf_counter() - began


def _show_gradients(start: Params, data: Dataset) -> bool:
    ways = jax.jit(
        lambda params: {
            str(loss): {name: way(loss)(params, data) for name, way in WAYS.items()}
            for loss in (mse, mae)
        }
    )
    found, seconds = _timed(lambda: jax.device_get(ways(start)))
    began = time.perf_counter()
    reports = {str(loss): check_gradients(loss, start, data) for loss in (mse, mae)}
    seconds += time.perf_counter() - began
    slope, intercept = (leaf.item() for leaf in jax.tree.leaves(start))
    _heading("The same gradient four ways", seconds)
    print(f"at slope {slope:.6g} and intercept {intercept:.6g}\n")
    print(f"{'loss':<5}{'way':<20}{'value':>14}{'d/d slope':>16}{'d/d intercept':>16}")
    for loss, report in reports.items():
        for way in WAYS:
            value, gradient = found[loss][way]
            numbers = f"{value:>14.6g}{gradient.weights[0]:>16.7g}{gradient.bias:>16.7g}"
            print(f"{loss:<5}{way:<20}{numbers}")
        worst = _worst_difference([gradient for _, gradient in found[loss].values()])
        verdict = "all within rounding" if report.ok else "NOT all within rounding"
        print(f"     worst difference {worst:.1e} of the largest entry: {verdict}")
    for loss, report in reports.items():
        if not report.ok:
            print(f"\n{loss}:\n{report}")
    return all(report.ok for report in reports.values())


def _worst_difference(gradients: Sequence[Params]) -> float:
    """The largest difference between two gradients, over the largest entry of the first."""
    flat = np.stack([np.hstack(jax.tree.leaves(gradient)) for gradient in gradients])
    return float(np.max(np.ptp(flat, axis=0)) / np.max(np.abs(flat[0])))


def _show_diagnosis(data: Dataset) -> Diagnosis:
    began = time.perf_counter()
    diagnosis = diagnose(data)
    text = str(diagnosis)
    _heading("Will it explode?", time.perf_counter() - began)
    print(text)
    return diagnosis


def _show_training(start: Params, data: Dataset, diagnosis: Diagnosis) -> Fit:
    rate = diagnosis.best_rate

    def train(rate: Float[Array, ""]) -> Fit:
        return fit(mse, start, data, learning_rate=rate, num_steps=NUM_STEPS, record_params=True)

    result, first = _timed(train, rate)
    _, second = _timed(train, rate)
    _heading("Training: one compiled lax.scan", first)
    print(
        f"mse, full batch, learning rate {float(rate):.4g}; "
        f"compiled once, then {NUM_STEPS} steps in {second * 1e3:.2g} ms\n"
    )
    print(f"{'step':>6}{'loss [km²/s²]':>18}{'slope [km/s/Mpc]':>20}{'intercept [km/s]':>20}")
    path, losses = jax.device_get((result.path, result.losses))
    for step in SHOWN_STEPS:
        if step == NUM_STEPS:
            params, loss = jax.device_get((result.params, mse(result.params, data)))
        else:
            params, loss = jax.tree.map(lambda array, step=step: array[step], (path, losses))
        print(f"{step:>6}{loss:>18.2f}{params.weights[0]:>20.3f}{params.bias:>20.3f}")
    print(_explosion(train, diagnosis))
    return result


def _explosion(train: Callable[[Float[Array, ""]], Fit], diagnosis: Diagnosis) -> str:
    """What a rate beyond the limit does, and what the diagnosis said it would."""
    rate = jax.device_put(10 * np.asarray(diagnosis.largest_stable_rate))
    exploded = train(rate)
    text = f"\nAt {float(rate):.3g}, ten times the largest stable rate, the loss "
    if int(exploded.status) != Status.DIVERGED:
        largest = float(jnp.nanmax(exploded.losses))
        return text + f"grows\nto {largest:.1e} in {NUM_STEPS} steps."
    foretold = int(diagnosis.overflow_step(rate))
    return text + f"overflows\nat step {int(exploded.num_steps)}; foretold: {foretold}."


def _show_answer(params: Params, data: Dataset) -> bool:
    x, y = jax.device_get((data.X[:, 0], data.y))
    (solution, line), seconds = _timed(lambda: (solve(data), solve_line(x, y)))
    _heading("The exact answer", seconds)
    print(f"{'':<24}{'slope [km/s/Mpc]':>18}{'intercept [km/s]':>18}{'loss [km²/s²]':>16}")
    rows = {
        "trained": params,
        "solve (QR)": solution.params,
        "solve_line (means)": line,
    }
    for name, found in rows.items():
        numbers = f"{found.weights[0]:>18.3f}{found.bias:>18.3f}{mse(found, data):>16.2f}"
        print(f"{name:<24}{numbers}")
    slope, exact = float(params.weights[0]), float(solution.params.weights[0])
    return abs(slope - exact) < 1e-4 * abs(exact)
