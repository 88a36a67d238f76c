"""Watching a run: the numbers of the silent one, and what is shown of them."""

import sys

import jax
import numpy as np
import optax
import pytest

from linreg_jax import Status, fit, mse
from linreg_jax.training import Progress
from tests.support import assert_same_bits, make_problem

PARAMS, DATA = make_problem(0, n=60, d=3)
KEY = jax.random.key(0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"num_steps": 3000},
        {"num_steps": 50, "record_every": 7, "record_params": True, "compress": False},
        {"num_steps": 2500, "tolerance": 1e-5, "optimizer": optax.adam},
        {"num_epochs": 30, "batch_size": 7, "key": KEY, "validation": DATA, "tolerance": 1e-3},
    ],
)
def test_a_watched_run_is_the_silent_one_bit_for_bit(settings):
    seen = []
    silent = fit(mse, PARAMS, DATA, learning_rate=0.05, **settings)
    watched = fit(mse, PARAMS, DATA, learning_rate=0.05, progress=seen.append, **settings)
    assert_same_bits(watched, silent)
    assert seen
    steps = [progress.step for progress in seen]
    assert steps == sorted(steps)
    assert steps[-1] == int(silent.num_steps)
    recorded = np.asarray(silent.losses)
    assert seen[-1].loss == recorded[~np.isnan(recorded)][-1]
    assert seen[-1].num_steps == len(recorded) or "record_every" in settings
    assert seen[-1].learning_rate == pytest.approx(0.05)
    assert seen[-1].seconds > 0


def test_text_where_tqdm_is_not_installed(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    fit(mse, PARAMS, DATA, learning_rate=0.05, num_steps=20, progress=True)
    last = capsys.readouterr().err.split("\r")[-1]
    assert last.startswith("step 20 of 20, loss ")
    assert "rate 0.05, 0 s left" in last


def test_a_bar_where_tqdm_is_installed(monkeypatch):
    shown = []

    class Bar:
        n = 0

        def __init__(self, total, unit):
            shown.append((total, unit))

        def set_postfix_str(self, text, refresh):
            shown.append(text)

        def update(self, steps):
            self.n += steps

        def close(self):
            shown.append(self.n)

    module = type(sys)("tqdm.auto")
    module.tqdm = Bar
    monkeypatch.setitem(sys.modules, "tqdm", type(sys)("tqdm"))
    monkeypatch.setitem(sys.modules, "tqdm.auto", module)
    fit(mse, PARAMS, DATA, learning_rate=0.05, num_steps=20, progress=True)
    assert shown[0] == (20, "step")
    assert shown[-1] == 20
    assert "rate 0.05" in shown[-2]


def test_ctrl_c_leaves_a_state_to_go_on_from():
    def interrupt(progress):
        if progress.step > 100:
            raise KeyboardInterrupt

    def run(start, num_steps, progress=None):
        return fit(mse, start, DATA, learning_rate=0.001, num_steps=num_steps, progress=progress)

    broken_off = run(PARAMS, 3000, interrupt)
    steps = int(broken_off.num_steps)
    assert broken_off.status == Status.INTERRUPTED
    assert 100 < steps < 3000
    whole = run(PARAMS, 3000)
    assert_same_bits(broken_off.losses[:steps], whole.losses[:steps])
    assert np.isnan(broken_off.losses[steps:]).all()
    assert_same_bits(run(broken_off.state, 3000 - steps).state, whole.state)


def test_is_for_runs_that_are_not_transformed():
    def run(rate):
        return fit(mse, PARAMS, DATA, learning_rate=rate, num_steps=20, progress=True)

    with pytest.raises(ValueError, match="leave progress out"):
        jax.jit(run)(0.1)


def test_a_progress_is_told_in_a_line():
    progress = Progress(5, 10, 0.25, 0.1, 2.0, 2.0)
    assert str(progress) == "step 5 of 10, loss 0.25, rate 0.1, 2 s left"
