"""Pictures fit to print: ticks with room, windows that hold, dark backgrounds, text as text."""

import itertools

import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import pytest

from linreg_jax import Params, as_dataset, fit, mse
from linreg_jax._plotting.drawing import palette_of
from linreg_jax._plotting.ticks import NumberFormatter, number_text
from linreg_jax.plotting import (
    animate,
    plot_fit,
    plot_losses,
    plot_summary,
    plot_surface,
    save_picture,
)
from tests.test_plotting import assert_well_laid_out

mpl.use("agg")
from matplotlib import pyplot as plt

NAMES = ["area (m²)", "age"]


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def prices():
    """`(data, runs)`: targets of millions; a rate that creeps, one that explodes within float32."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(50, 2))
    data = as_dataset(X, 2e6 + X @ [4e5, -1e5] + 1e5 * rng.normal(size=50))
    start = Params(jnp.zeros(2), jnp.float32(0))
    runs = [
        fit(mse, start, data, learning_rate=rate, num_steps=25, record_params=True)
        for rate in (0.1, 1.2)
    ]
    return data, runs


@pytest.mark.parametrize(
    ("ticks", "labels"),
    [
        ([0, 0.5, 1], ["0", "0.5", "1.0"]),
        ([-2.5, 0, 2.5], ["−2.5", "0", "2.5"]),
        ([1950, 1975, 2000], ["1950", "1975", "2000"]),
        ([0, 12500, 25000], ["0", "12,500", "25,000"]),
        ([1e6, 1e6 + 0.25], ["1,000,000.00", "1,000,000.25"]),
        ([0, 1.5e7], ["0", "1.5×10⁷"]),
        ([2e-6, 4e-6], ["2×10⁻⁶", "4×10⁻⁶"]),
        ([0], ["0"]),
    ],
)
def test_numbers_are_written_as_by_hand(ticks, labels):
    assert NumberFormatter().format_ticks(ticks) == labels


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.1, "0.1"), (49731.0, "49,730"), (4.1512e10, "4.151×10¹⁰"), (-1.9e-6, "-1.9×10⁻⁶")],
)
def test_a_number_in_a_sentence(value, text):
    assert number_text(value) == text


@pytest.mark.parametrize("width", [2.2, 3.5, 6.4])
@pytest.mark.parametrize("dpi", [100, 200])
def test_labels_of_ticks_never_meet(prices, width, dpi):
    data, runs = prices
    figure = plt.figure(figsize=(width, width), dpi=dpi, layout="constrained")
    ax = plot_fit(runs[0].params, data, target_name="price", ax=figure.subplots())
    figure.canvas.draw()
    for axis, side in ((ax.xaxis, "intervalx"), (ax.yaxis, "intervaly")):
        shown = [label.get_window_extent() for label in axis.get_ticklabels()]
        intervals = sorted(tuple(getattr(box, side)) for box in shown)
        assert len(intervals) >= (2 if width > 3 else 1)
        for one, other in itertools.pairwise(intervals):
            assert one[1] < other[0]


def test_an_exploding_path_is_cut_at_the_edge_and_has_an_arrow_there(prices):
    data, runs = prices
    ax = plot_surface(mse, data, runs, over=("bias", 0))
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    assert right < 1e7  # the second path goes on to 1e10
    lines = dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    path = np.asarray(lines["learning rate 1.2"].get_xydata())
    edges = np.abs((path[-1] - [[left, bottom], [right, top]]) / [right - left, top - bottom])
    assert edges.min() < 1e-6  # it ends on the frame
    (arrow,) = ax.texts
    np.testing.assert_array_equal(arrow.xy, path[-1])
    settled = np.asarray(lines["learning rate 0.1"].get_xydata())
    assert len(settled) == 26
    assert_well_laid_out(ax)


def test_limits_are_kept(prices):
    data, runs = prices
    limits = ((0, 5e5), (-1e5, 1e5))
    ax = plot_surface(mse, data, runs[:1], limits=limits)
    assert (ax.get_xlim(), ax.get_ylim()) == limits
    for wrong in (((1, 0), (0, 1)), ((0, 1),), ((0, np.inf), (0, 1))):
        with pytest.raises(ValueError, match="limits must be"):
            plot_surface(mse, data, limits=wrong)


def test_parameters_are_named(prices):
    data, _ = prices
    ax = plot_surface(mse, data, over=("age", "area"), feature_names=NAMES)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("weight of age", "weight of area (m²)")
    ax = plot_surface(mse, data, over=("intercept", "area (m²)"), feature_names=NAMES)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("intercept", "weight of area (m²)")
    with pytest.raises(ValueError, match="over names 'aera', and there are area, age"):
        plot_surface(mse, data, over=("aera", "age"), feature_names=NAMES)


def test_a_summary_is_a_page_of_four(prices):
    data, runs = prices
    axes = plot_summary(runs[0], data, feature_names=NAMES, target_name="price")
    assert [ax.get_ylabel() for ax in axes] == [
        "predicted price",
        "mse",
        "weight of age",
        "residual",
    ]
    assert_well_laid_out(axes)


def test_a_dark_background_has_colours_of_its_own(prices):
    data, runs = prices
    light = plot_losses(runs)
    with plt.style.context("dark_background"):
        dark = plot_losses(runs)
        assert_well_laid_out(plot_surface(mse, data, runs))
    assert palette_of(light).paper == "#ffffff"
    assert palette_of(dark).paper == "#000000"
    for ax in (light, dark):
        background = np.array(mpl.colors.to_rgb(ax.get_facecolor()))
        for line in ax.get_lines():
            assert np.abs(mpl.colors.to_rgb(line.get_color()) - background).max() > 0.5


def test_a_saved_picture_holds_its_text_as_text(prices, tmp_path):
    _, runs = prices
    ax = plot_losses(runs, loss_name="error of the price")
    path = save_picture(ax, tmp_path / "losses.svg")
    assert ">error of the price<" in path.read_text("utf-8")
    assert b"CIDFontType2" in save_picture([ax], tmp_path / "a.pdf").read_bytes()  # not outlines
    png = save_picture(ax.figure, tmp_path / "a.png", dpi=50).read_bytes()
    assert png.startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="not supported"):
        save_picture(ax, tmp_path / "a.xyz")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.pdf", "a.png", "losses.svg"]


def test_a_film_of_an_exploding_run_goes_on_after_it_has_left(prices, tmp_path):
    data, runs = prices
    path = animate(runs[1], data, tmp_path / "run.gif", over=("bias", 0), num_frames=4)
    assert path.read_bytes().startswith(b"GIF89a")
