"""A diagnosis in sentences."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

import jax
import numpy as np

from linreg_jax._typing import AnyArray, Array, Bool

if TYPE_CHECKING:
    from linreg_jax.diagnosis import Diagnosis

# A feature whose size differs from another's by more than this factor is named.
_FAR_APART = 10.0


def in_sentences(diagnosis: Diagnosis) -> str:
    """The numbers of a `Diagnosis` in sentences, 79 columns wide."""
    return "\n".join(textwrap.fill(line, 79) for line in _sentences(diagnosis))


def _sentences(diagnosis: Diagnosis) -> Iterator[str]:
    d = jax.tree.map(np.asarray, diagnosis)
    p, num_features = d.curvatures.shape[0], d.feature_scale.shape[0]
    name, dtype = str(diagnosis.loss), d.curvatures.dtype
    if d.largest_curvature == 0:
        yield f"{name} is flat on these data: every feature is 0, and no step moves anything."
        return
    if diagnosis.is_bound:
        yield (
            f"The curvature of {name} is nowhere above {_number(d.largest_curvature)} on "
            f"{_these_examples(d)}."
        )
        yield (
            f"Safe learning rates: below {_number(d.largest_stable_rate)} every step descends; "
            f"{_number(d.best_rate)} is the rate with the best guarantee."
        )
    else:
        yield (
            f"The curvature of {name} on {_these_examples(d)} lies between "
            f"{_number(d.smallest_curvature)} and {_number(d.largest_curvature)}: condition number "
            f"{_number(d.condition_number)}."
        )
        taken = 2 * d.smallest_curvature / (d.largest_curvature + d.smallest_curvature)
        beyond = 1.1 * d.largest_stable_rate
        step = float(diagnosis.overflow_step(beyond))
        overflow = f", where {dtype} overflows after {_count(step)} steps from 0"
        yield (
            f"Gradient descent explodes at learning rates above {_number(d.largest_stable_rate)}"
            f" (for instance at {_number(beyond)}{overflow if step < np.inf else ''})."
        )
        yield (
            f"The best constant rate is {_number(d.best_rate)}: a step takes at least "
            f"{_number(100 * taken)} % off the distance to the minimum, which leaves 1 % after "
            f"{_count(diagnosis.steps_to(0.01))} steps and a millionth after "
            f"{_count(diagnosis.steps_to(1e-6))}."
        )
    if d.rank < p:
        yield from _deficiency(d, p, num_features)
    yield from _scaling(d, p > num_features)


def _deficiency(d: Diagnosis, p: int, num_features: int) -> Iterator[str]:
    few = d.num_examples < p
    yield (
        f"Only {d.rank} of {p} parameters are determined"
        + (f", by {_these_examples(d)}" if few else "")
        + ": many minima are equally good; solve returns the shortest, and descent stays where it "
        "started in the other directions."
    )
    if d.constant.any() and p > num_features:
        yield f"Constant: {_features(d.constant)}; the bias does the same. Drop what is constant."
    elif d.constant.any():
        yield f"Nothing but 0: {_features(d.constant)}. Drop what is 0."
    if d.collinear.any() and not few:
        yield f"Combinations of each other: {_features(d.collinear)}. Drop what is said twice."


def _scaling(d: Diagnosis, intercept: bool) -> Iterator[str]:
    """What `standardize` would improve: features of very different size, or far from 0."""
    if not d.condition_number > 4 * d.standardized_condition_number:
        return
    used = np.flatnonzero(~d.constant)
    deviation = d.feature_deviation
    large, small = used[np.argmax(deviation[used])], used[np.argmin(deviation[used])]
    far = used[np.argmax(d.feature_scale[used] / deviation[used])]
    about = "its mean" if intercept else "0"
    found = []
    if deviation[large] > _FAR_APART * deviation[small]:
        found.append(
            f"about {about}, feature {large} has a root mean square of {_number(deviation[large])} "
            f"and feature {small} of {_number(deviation[small])}"
        )
    if d.feature_scale[far] > _FAR_APART * deviation[far]:
        found.append(
            f"feature {far} lies {_number(d.feature_scale[far])} from 0 and varies by "
            f"{_number(deviation[far])}"
        )
    if found:
        yield (
            "Features want scaling: " + "; ".join(found) + ". standardize(data) would make the "
            f"condition number {_number(d.standardized_condition_number)}."
        )


def _these_examples(diagnosis: Diagnosis) -> str:
    count = diagnosis.num_examples
    return "this one example" if count == 1 else f"these {_count(count)} examples"


def _number(value: float | AnyArray) -> str:
    return f"{float(value):.4g}"


def _count(value: float | AnyArray) -> str:
    number = float(value)
    return f"{number:,.0f}" if number < 1e6 else f"{number:.2g}"


def _features(chosen: Bool[Array | np.ndarray, " d"]) -> str:
    """`features 0, 3 and 4`, or the first ten of many."""
    places = [str(place) for place in np.flatnonzero(chosen)]
    if len(places) == 1:
        return f"feature {places[0]}"
    if len(places) > 10:
        return f"features {', '.join(places[:10])} and {len(places) - 10} more"
    return f"features {', '.join(places[:-1])} and {places[-1]}"
