"""plotting: every picture is drawn, holds what it should, and nothing overlaps or is cut off."""

import dataclasses
import itertools
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import pytest

from linreg_jax import (
    Params,
    as_dataset,
    huber,
    init_params,
    lasso_path,
    mae,
    mse,
    predict,
    ridge,
    standardize,
)
from linreg_jax.checking import Comparison, GradientReport
from linreg_jax.plotting import (
    animate,
    plot_fit,
    plot_gradient_check,
    plot_lasso_path,
    plot_learning_rates,
    plot_losses,
    plot_surface,
)
from linreg_jax.training import fit
from tests.support import make_problem

mpl.use("agg")
from matplotlib import pyplot as plt
from matplotlib.collections import LineCollection
from PIL import Image

UNITS = {"feature_names": ["distance (Mpc)"], "target_name": "velocity (km/s)"}
RATES = (0.1, 0.6, 0.8)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def line():
    """`(data, runs)`: one feature, from far away at three rates, the last one overshooting."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=(100, 1)).astype("float32")
    data = as_dataset(x, 60 * x[:, 0] + rng.normal(size=100).astype("float32") * 5)
    start = Params(jnp.array([-10.0]), jnp.array(9.0))
    runs = [
        fit(mse, start, data, learning_rate=rate, num_steps=30, record_params=True)
        for rate in RATES
    ]
    return data, runs


def assert_well_laid_out(axes):
    """Everything drawn lies in the figure, and no text or legend lies on another."""
    axes = np.ravel(axes)
    figure = axes[0].figure
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    inside = figure.bbox.padded(1)
    frames = []
    for ax in figure.axes:
        box = ax.get_tightbbox(renderer)
        assert inside.x0 <= box.x0, ax
        assert box.x1 <= inside.x1, ax
        assert inside.y0 <= box.y0, ax
        assert box.y1 <= inside.y1, ax
        frames.append(box)
        texts = [ax.xaxis.label, ax.yaxis.label, ax.title, ax.get_legend()]
        for axis, span in ((ax.xaxis, "intervalx"), (ax.yaxis, "intervaly")):
            ticks = [t.get_window_extent(renderer) for t in axis.get_ticklabels() if t.get_text()]
            ticks = [tick for tick in ticks if tick.overlaps(inside)]
            ticks.sort(key=lambda box, span=span: tuple(getattr(box, span)))
            for one, other in itertools.pairwise(ticks):
                assert getattr(one, span)[1] <= getattr(other, span)[0] + 1, ax
            label = axis.label.get_window_extent(renderer)
            assert not any(label.overlaps(tick) for tick in ticks if axis.label.get_text()), ax
        shown = [t.get_window_extent(renderer) for t in texts if t and (t.get_visible())]
        shown = [box for box in shown if box.width > 0]
        for i, one in enumerate(shown):
            assert not any(one.overlaps(other) for other in shown[i + 1 :]), ax
        if ax.get_legend() is not None:
            legend = ax.get_legend().get_window_extent(renderer)
            assert not legend.overlaps(ax.get_window_extent(renderer).padded(-1)), ax
    for i, one in enumerate(frames):
        assert not any(one.padded(-1).overlaps(other.padded(-1)) for other in frames[i + 1 :])


def labelled(ax):
    """label -> artist, of what the legend shows."""
    return {artist.get_label(): artist for artist in ax.get_legend_handles_labels()[0]}


def test_the_layout_check_sees_what_is_wrong():
    ax = plt.figure(layout="constrained").subplots()
    ax.plot([0, 1], [0, 1], label="line")
    assert_well_laid_out(ax)
    ax.text(1.5, 0.5, "beyond the figure").set_in_layout(True)
    ax.figure.set_layout_engine("none")
    with pytest.raises(AssertionError):
        assert_well_laid_out(ax)
    ax = plt.figure(layout="constrained").subplots()
    ax.plot([0, 1], [0, 1], label="line")
    ax.legend()
    with pytest.raises(AssertionError):
        assert_well_laid_out(ax)


def test_importing_the_package_imports_no_matplotlib():
    code = "import sys, linreg_jax; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_plot_fit_of_one_feature_is_the_line_through_the_data(line):
    data, runs = line
    params = runs[0].params
    ax = plot_fit(params, data, **UNITS)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("distance (Mpc)", "velocity (km/s)")
    drawn = labelled(ax)
    np.testing.assert_array_equal(drawn["100 examples"].get_xdata(), data.X[:, 0])
    np.testing.assert_array_equal(drawn["100 examples"].get_ydata(), data.y)
    x, y = drawn["prediction"].get_data()
    # float32 predictions at float64 ends
    np.testing.assert_allclose(y, params.weights[0] * x + params.bias, rtol=1e-5)
    (residuals,) = (c for c in ax.collections if isinstance(c, LineCollection))
    ends = np.array([segment[:, 1] for segment in residuals.get_segments()])
    np.testing.assert_allclose(ends[:, 0], data.y)
    np.testing.assert_allclose(ends[:, 1], predict(params, data.X), rtol=1e-6)
    assert_well_laid_out(ax)


def test_plot_fit_of_several_features_is_predicted_against_observed():
    params, data = make_problem(0)
    ax = plot_fit(params, data, target_name="progression (units)")
    assert ax.get_xlabel() == "observed progression (units)"
    assert ax.get_ylabel() == "predicted progression (units)"
    drawn = labelled(ax)
    np.testing.assert_array_equal(drawn["50 examples"].get_xdata(), data.y)
    np.testing.assert_allclose(drawn["50 examples"].get_ydata(), predict(params, data.X), rtol=1e-6)
    x, y = drawn["predicted = observed"].get_data()
    np.testing.assert_array_equal(x, y)
    low, high = ax.get_ylim()
    assert low < drawn["50 examples"].get_ydata().min()
    assert drawn["50 examples"].get_ydata().max() < high
    assert_well_laid_out(ax)


def test_plot_fit_draws_some_of_many_examples():
    X = jnp.linspace(0, 1, 20_000)[:, None]
    ax = plot_fit(Params(jnp.array([1.0]), None), as_dataset(X, X[:, 0]))
    points = labelled(ax)["5,000 of 20,000 examples"]
    assert len(points.get_xdata()) == 5000
    assert (points.get_xdata()[0], points.get_xdata()[-1]) == (0, 1)


def test_plot_losses_draws_each_run_and_its_validation(line):
    data, _ = line
    start = init_params(data)
    runs = [
        fit(
            mse,
            start,
            data,
            learning_rate=rate,
            num_epochs=5,
            batch_size=40,
            key=jax.random.key(0),
            validation=data,
        )
        for rate in (0.05, 0.2)
    ]
    ax = plot_losses(*runs, loss_name="mse (km²/s²)", steps_per_epoch=3)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("epoch", "mse (km²/s²)")
    assert ax.get_yscale() == "log"
    drawn = labelled(ax)
    assert list(drawn) == [
        "learning rate 0.05",
        "learning rate 0.05, validation",
        "learning rate 0.2",
        "learning rate 0.2, validation",
    ]
    for run, rate in zip(runs, (0.05, 0.2), strict=True):
        one = drawn[f"learning rate {rate}"]
        np.testing.assert_allclose(one.get_xdata(), np.arange(15) / 3)
        np.testing.assert_allclose(one.get_ydata(), run.losses)
        held_out = drawn[f"learning rate {rate}, validation"]
        np.testing.assert_allclose(held_out.get_xdata(), [1, 2, 3, 4, 5])
        np.testing.assert_allclose(held_out.get_ydata(), run.validation_losses)
        assert held_out.get_linestyle() == "--"
        assert held_out.get_color() == one.get_color()
    assert one.get_linestyle() != drawn["learning rate 0.05"].get_linestyle()
    by_step = plot_losses(*runs)
    np.testing.assert_allclose(
        labelled(by_step)["learning rate 0.2, validation"].get_xdata(), [3, 6, 9, 12, 15]
    )
    assert_well_laid_out(ax)


def test_plot_losses_marks_divergence_and_keeps_the_other_runs_in_sight(line):
    data, _ = line
    runs = [
        fit(mse, init_params(data), data, learning_rate=rate, num_steps=200) for rate in (0.1, 2.0)
    ]
    ax = plot_losses(*runs)
    step = int(runs[1].state.step)
    mark = labelled(ax)[f"diverged at step {step}"]
    assert mark.get_xdata()[0] == pytest.approx(step, abs=1)
    low, high = ax.get_ylim()
    assert low < float(runs[0].losses[-1]) < high < 1e4 * float(runs[0].losses[0])
    assert low < mark.get_ydata()[0] < high
    assert_well_laid_out(ax)


def test_plot_losses_goes_on_where_a_state_went_on_and_leaves_out_zeros(line):
    data, _ = line
    first = fit(mse, init_params(data), data, learning_rate=0.1, num_steps=10)
    second = fit(mse, first.state, data, learning_rate=0.1, num_steps=10)
    ax = plot_losses(first, second, labels=["first", "then"])
    assert labelled(ax)["then"].get_xdata().tolist() == list(range(10, 20))
    exact = as_dataset([[0.0], [1.0]], [0.0, 0.0])
    nothing = fit(mse, init_params(exact), exact, learning_rate=0.1, num_steps=3)
    assert np.isnan(plot_losses(nothing).lines[0].get_ydata()).all()


def test_plot_losses_takes_a_list_as_plot_surface_does(line):
    _, runs = line
    apart, together = plot_losses(*runs), plot_losses(list(runs))
    assert list(labelled(together)) == list(labelled(apart))
    assert list(labelled(plot_losses(runs[0]))) == list(labelled(apart))[:1]
    for wrong in (np.ones(3), runs[0].params, [runs[0], runs[1].losses]):
        with pytest.raises(TypeError, match="fits must be what fit returned, got"):
            plot_losses(wrong)
    with pytest.raises(TypeError, match="fits must be what fit returned, got Params"):
        plot_surface(mse, line[0], [runs[0].params])


def test_plot_surface_holds_the_recorded_paths_and_the_minimum(line):
    data, runs = line
    ax = plot_surface(mse, data, runs, feature_names="distance (Mpc)")
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("slope over distance (Mpc)", "intercept")
    drawn = labelled(ax)
    assert list(drawn) == [*(f"learning rate {rate}" for rate in RATES), "minimum"]
    for run, rate in zip(runs, RATES, strict=True):
        x, y = drawn[f"learning rate {rate}"].get_data()
        np.testing.assert_array_equal(x, [*run.path.weights[:, 0], run.params.weights[0]])
        np.testing.assert_array_equal(y, [*run.path.bias, run.params.bias])
        low, high = np.array([ax.get_xlim(), ax.get_ylim()]).T
        assert (low < np.c_[x, y]).all()
        assert (np.c_[x, y] < high).all()
    star = [float(c[0]) for c in drawn["minimum"].get_data()]
    design = np.c_[np.asarray(data.X, float), np.ones(100)]
    exact = np.linalg.lstsq(design, np.asarray(data.y, float))[0]
    np.testing.assert_allclose(star, exact, rtol=1e-9)  # float64, both
    assert_well_laid_out(ax)


@pytest.mark.parametrize("loss", [mse, mse + ridge(0.5), mae, huber(3.0)], ids=str)
def test_the_contours_are_the_loss_and_the_star_is_its_minimum(line, loss):
    """Evaluated anew in NumPy float64, along the contours and all around the star."""
    data, _ = line
    run = fit(loss, init_params(data), data, learning_rate=0.1, num_steps=30, record_params=True)
    ax = plot_surface(loss, data, run)
    x, y = np.asarray(data.X[:, 0], float), np.asarray(data.y, float)

    def value(slope, intercept):
        r = slope * x + intercept - y
        if loss == mae:
            return np.abs(r).mean()
        if loss == huber(3.0):
            return np.where(np.abs(r) <= 3, r * r / 2, 3 * (np.abs(r) - 1.5)).mean()
        return (r * r).mean() + (0.5 * slope**2 if loss.penalties else 0)

    star = [float(c[0]) for c in labelled(ax)["minimum"].get_data()]
    least = value(*star)
    for angle in np.linspace(0, 6, 12):
        for far in (1e-3, 1.0):
            moved = star + far * np.array([np.cos(angle), np.sin(angle)])
            assert value(*moved) >= least * (1 - 1e-9)  # a flat floor, and the search's last step
    contours = ax.collections[1]
    # The lowest ones are a few cells of the grid across, and have corners.
    for level, path in zip(contours.levels[4:-1], contours.get_paths()[4:-1], strict=True):
        rises = [value(*vertex) - least for vertex in path.vertices[::20]]
        # linear interpolation of what is curved, in cells of 1/200 of the window
        np.testing.assert_allclose(rises, level, rtol=0.05)


def test_the_levels_show_the_valley_of_badly_scaled_data():
    """Years as they are: a valley 10,000 times longer than wide, seen as closed bands around it."""
    rng = np.random.default_rng(0)
    year = rng.uniform(1950, 2020, 100)
    data = as_dataset(
        year[:, None].astype("float32"), (0.02 * year - 38 + rng.normal(size=100)).astype("float32")
    )
    run = fit(mse, init_params(data), data, learning_rate=1e-7, num_steps=20, record_params=True)
    ax = plot_surface(mse, data, run)
    contours = ax.collections[1]
    (x0, x1), (y0, y1) = ax.get_xlim(), ax.get_ylim()
    for path in contours.get_paths()[3:-1]:
        # each level is two lines from edge to edge, not crumbs along the valley
        assert len(path.to_polygons(closed_only=False)) <= 2
        spans = np.ptp(path.vertices, axis=0) / [x1 - x0, y1 - y0]
        assert spans.max() > 0.5


def test_plot_surface_over_any_two_parameters_and_without_fits():
    _, data = make_problem(1, d=3)
    data, _ = standardize(data)
    names = ["age", "bmi", "bp"]
    ax = plot_surface(mse, data, over=("bias", 2), feature_names=names)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("intercept", "weight of bp")
    star = [float(c[0]) for c in labelled(ax)["minimum"].get_data()]
    design = np.c_[np.asarray(data.X, float), np.ones(50)]
    exact = np.linalg.lstsq(design, np.asarray(data.y, float))[0]
    np.testing.assert_allclose(star, exact[[3, 2]], rtol=1e-9)  # float64, both
    ax = plot_surface(mse, data)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("weight of feature 0", "weight of feature 1")


def test_an_exploding_path_leaves_the_window_and_does_not_stretch_it(line):
    data, _ = line
    start = init_params(data)
    run = fit(mse, start, data, learning_rate=2.0, num_steps=100, record_params=True)
    ax = plot_surface(mse, data, run)
    assert np.abs(ax.get_xlim()).max() < 1000
    assert np.isfinite(labelled(ax)["learning rate 2"].get_xdata()).all()
    assert_well_laid_out(ax)


def test_plot_learning_rates_draws_the_curve_the_limit_and_the_paths(line):
    data, _ = line
    start = Params(jnp.array([-10.0]), jnp.array(9.0))
    axes = plot_learning_rates(mse, data, [0.1, 0.6, 2.0], params=start, num_steps=15)
    assert len(axes) == 4
    drawn = labelled(axes[0])
    x, y = np.asarray(data.X[:, 0], float), np.asarray(data.y, float)
    design = np.stack([x, np.ones_like(x)], axis=1)
    hessian = 2 * design.T @ design / len(x)
    limit = 2 / np.linalg.eigvalsh(hessian).max()
    (stable,) = (line for label, line in drawn.items() if label.startswith("largest stable"))
    assert stable.get_xdata()[0] == pytest.approx(limit, rel=1e-5)
    for rate, label in ((0.1, "rate 0.1: "), (0.6, "rate 0.6: ")):
        theta = np.array([-10.0, 9.0])
        for _ in range(15):
            theta -= rate * 2 * design.T @ (design @ theta - y) / len(x)
        (mark,) = (line for text, line in drawn.items() if text.startswith(label))
        reached = ((design @ theta - y) ** 2).mean()
        assert mark.get_ydata()[0] == pytest.approx(reached, rel=1e-4)  # float32, compressed
    assert "rate 2: off the top" in drawn
    assert [ax.get_title() for ax in axes[1:]] == [f"learning rate {r:g}" for r in (0.1, 0.6, 2)]
    for ax in axes[1:]:
        path = ax.lines[0]
        assert path.get_xdata()[0] == -10
        exploded = ax is axes[3]  # it is drawn up to the edge, where an arrow says that it goes on
        assert len(path.get_xdata()) == (2 if exploded else 16)
        assert len(ax.texts) == exploded
    assert_well_laid_out(axes)


def test_plot_learning_rates_without_a_stable_limit(line):
    data, _ = line
    axes = plot_learning_rates(mae, data, [0.5, 5.0], num_steps=10)
    assert not any(label.startswith("largest") for label in labelled(axes[0]))
    assert_well_laid_out(axes)


@pytest.fixture
def report():
    """As `check_gradients` makes them; the errors are those of a float32 problem."""
    ways = ("autodiff", "vectorized", "by_loops", "finite_difference")
    compared = tuple(
        Comparison(one, other, "weights[12]", (1.0, 1.0), error, 6e-3)
        for (one, other), error in zip(
            itertools.combinations(ways, 2), (0.0, 9e-5, 3e-5, 9e-5, 3e-5, 2e-3), strict=True
        )
    )
    title = "gradient of mse + ridge(0.1): 100,000 examples, 1,000 features, float32"
    return GradientReport(title, compared, (), None)


def test_plot_gradient_check_draws_errors_and_bounds(report):
    ax = plot_gradient_check(report)
    assert ax.get_xscale() == "log"
    bounds = labelled(ax)["bound"].get_xdata()[::-1]
    np.testing.assert_array_equal(bounds, [one.bound for one in report.comparisons])
    names = [text.get_text() for text in ax.get_yticklabels()][::-1]
    assert names[0] == "autodiff – vectorized\nat weights[12]"
    errors = labelled(ax)["apart, within the bound"].get_xdata()[::-1]
    np.testing.assert_array_equal(errors, [one.error for one in report.comparisons[1:]])
    assert labelled(ax)["equal to the last bit"].get_ydata().tolist() == [5]  # on top
    assert "wrong" not in labelled(ax)
    assert_well_laid_out(ax)


def test_plot_gradient_check_marks_what_is_wrong(report):
    """Errors of 0, within the bound, beyond it, and not finite."""
    one = report.comparisons[0]
    errors = [0.0, 0.5 * one.bound, 300 * one.bound, float("nan")]
    compared = tuple(one._replace(error=error) for error in errors)
    ax = plot_gradient_check(dataclasses.replace(report, comparisons=compared))
    drawn = labelled(ax)
    assert drawn["equal to the last bit"].get_ydata().tolist() == [3]  # the first one on top
    assert drawn["apart, within the bound"].get_xdata().tolist() == [errors[1]]
    assert drawn["wrong"].get_ydata().tolist() == [0, 1]
    assert drawn["wrong"].get_xdata()[1] == errors[2]
    assert_well_laid_out(ax)


def test_animate_writes_a_film_and_nothing_else(line, tmp_path):
    data, runs = line
    path = animate(runs[1], data, tmp_path / "run.gif", num_frames=3, frames_per_second=1, **UNITS)
    assert [file.name for file in tmp_path.iterdir()] == ["run.gif"]
    with Image.open(path) as film:
        assert film.n_frames == 3  # after 0, 5 and 30 steps, the last one held for a second
        first = np.asarray(film.convert("RGB"), int)
        film.seek(2)
        last = np.asarray(film.convert("RGB"), int)
    half = first.shape[1] // 2
    assert np.abs(first - last)[:, :half].any()
    assert np.abs(first - last)[:, half:].any()


def test_animate_refuses_what_it_cannot_write(line, tmp_path, monkeypatch):
    data, runs = line
    with pytest.raises(ValueError, match=r"a film is a \.gif or an \.mp4"):
        animate(runs[0], data, tmp_path / "run.avi")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ValueError, match=r"an \.mp4 needs the program ffmpeg"):
        animate(runs[0], data, tmp_path / "run.mp4")
    with pytest.raises(FileNotFoundError):
        animate(runs[0], data, tmp_path / "nowhere" / "run.gif", num_frames=1)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_drawn_is_refused(line):
    data, runs = line
    unrecorded = fit(mse, init_params(data), data, learning_rate=0.1, num_steps=2)
    mapped = jax.vmap(
        lambda rate: fit(
            mse, init_params(data), data, learning_rate=rate, num_steps=2, record_params=True
        )
    )(jnp.array([0.1, 0.2]))
    _, two_targets = make_problem(0, k=2)
    for draw, message in [
        (lambda: plot_surface(mse, data, unrecorded), "pass record_params=True"),
        (lambda: plot_surface(mse, data, mapped), "a mapped fit is 2 runs"),
        (lambda: plot_losses(mapped), "of a mapped fit pass"),
        (lambda: plot_losses(), "one or more runs"),
        (lambda: plot_losses(*runs, labels=["a"]), "labels must name the 3 fits"),
        (lambda: plot_surface(mse, data, runs, over=(0, 1)), "two different parameters"),
        (lambda: plot_surface(mse, data, runs, over=(0, 0)), "two different parameters"),
        (lambda: plot_surface(mse, two_targets), "a surface is of one target"),
        (lambda: plot_fit(init_params(two_targets), two_targets), "one target is drawn"),
        (lambda: plot_fit(runs[0].params, data, feature_names=["a", "b"]), "name the 1 features"),
        (lambda: plot_learning_rates(mse, data, []), "at least one"),
        (lambda: plot_learning_rates(mse, data, [0.1, -1]), "more than 0"),
        (lambda: plot_learning_rates(mse, data, [0.1], ax=plt.subplots()[1]), "must be 2 Axes"),
    ]:
        with pytest.raises(ValueError, match=message):
            draw()
    no_bias = fit(
        mse,
        init_params(data, intercept=False),
        data,
        learning_rate=0.1,
        num_steps=2,
        record_params=True,
    )
    with pytest.raises(ValueError, match="needs two parameters"):
        plot_surface(mse, data, no_bias)


def test_every_function_draws_into_the_axes_it_is_given(line, report):
    data, runs = line
    figure = plt.figure(figsize=(12, 8), layout="constrained")
    axes = figure.subplots(2, 2).ravel()
    assert plot_fit(runs[0].params, data, ax=axes[0]) is axes[0]
    assert plot_losses(*runs, ax=axes[1]) is axes[1]
    assert plot_surface(mse, data, runs, ax=axes[2]) is axes[2]
    assert plot_gradient_check(report, ax=axes[3]) is axes[3]
    assert plt.get_fignums() == [figure.number]
    assert_well_laid_out(axes)


def test_plot_lasso_path_draws_each_weight_from_knot_to_knot():
    _, data = make_problem(3, n=40, d=3)
    path = lasso_path(data)
    ax = plot_lasso_path(path, feature_names=["width (m)", "height (m)", "age (s)"])
    knots = np.asarray(path.strengths[: int(path.num_knots)])
    for j, curve in enumerate(labelled(ax).values()):
        strengths, weights = curve.get_data()
        assert strengths[0] == knots[0]
        assert np.isin(knots[:-1], strengths.astype(np.float32)).all()
        np.testing.assert_array_equal(weights, path.at(strengths).weights[:, j])
    assert ax.get_xscale() == "log"
    assert ax.get_xlim()[0] > ax.get_xlim()[1]
    assert_well_laid_out(ax)
    paths = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), path)
    with pytest.raises(ValueError, match="plot_lasso_path takes one path"):
        plot_lasso_path(paths)
