"""The door, and what turns one Dataset into another."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from linreg_jax import (
    Dataset,
    Params,
    Status,
    _conversion,
    as_dataset,
    diagnose,
    fit,
    init_params,
    mae,
    mse,
    predict,
    solve,
    split,
    standardize,
)
from tests.support import make_problem, relative_error


class Frame:
    """What of a pandas DataFrame reaches NumPy."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.values, dtype)


@pytest.mark.parametrize(
    ("X", "y", "expected"),
    [
        ([[1], [2]], [1, 2], "float32"),
        ([[1.0], [2.0]], (1.5, 2.5), "float32"),
        (np.ones((2, 1), np.float64), np.ones(2, np.int64), "float32"),
        (np.ones((2, 1), np.float16), [1, 2], "float32"),
        (np.ones((2, 1), np.float16), np.ones(2, np.float32), "float32"),
        (jnp.ones((2, 1), jnp.bfloat16), [1.0, 2.0], "float32"),
        (np.ones((2, 1), bool), [1.0, 2.0], "float32"),
        (Frame(np.ones((2, 1))), Frame(np.arange(2)), "float32"),
    ],
)
def test_as_dataset_chooses_the_dtype(X, y, expected):
    data = as_dataset(X, y, [1, 2])
    assert {str(column.dtype) for column in data[:3]} == {expected}
    assert all(isinstance(column, jax.Array) for column in data[:3])
    np.testing.assert_array_equal(data.X.astype("float32"), np.asarray(X, "float32"))


def test_as_dataset_keeps_float64_where_it_can(x64):
    assert as_dataset(np.ones((2, 1)), np.ones(2, np.float32)).X.dtype == "float64"
    assert as_dataset([[1.0]], [1.0]).X.dtype == "float64"
    assert as_dataset(np.ones((2, 1), np.float32), [0.1, 0.2]).y.dtype == "float32"


@pytest.mark.parametrize(
    ("X", "y", "weight", "kind", "message"),
    [
        ([1.0, 2.0], [1.0, 2.0], None, ValueError, r"X has shape \[2\].*X\[:, None\]"),
        (np.ones((2, 1, 1)), [1.0, 2.0], None, ValueError, r"X has shape \[2, 1, 1\]"),
        ([[1.0], [2.0]], [1.0], None, ValueError, r"y has shape \[1\] but X is \[2, 1\]"),
        ([[1.0]], 1.0, None, ValueError, r"y has shape \[\] but X is \[1, 1\]"),
        (np.ones((0, 2)), np.ones(0), None, ValueError, "no examples"),
        (np.ones((2, 0)), np.ones(2), None, ValueError, "no features"),
        ([[1.0], [2.0]], np.ones((2, 0)), None, ValueError, r"y has shape \[2, 0\]"),
        ([[1.0], [2.0, 3.0]], [1.0, 2.0], None, ValueError, "X is not a rectangular array"),
        (
            [[1.0, 2.0], [3.0, np.nan], [np.inf, 0.0]],
            [1.0, 2.0, 3.0],
            None,
            ValueError,
            r"X holds 2 values that are not finite, the first nan at \[1, 1\]: drop or fill",
        ),
        ([[1.0], [2.0]], [1.0, -np.inf], None, ValueError, r"y holds 1 .* -inf at \[1\]"),
        ([[1.0], [2.0]], [1.0, 2.0], [1.0, np.nan], ValueError, r"sample_weight holds 1 .* \[1\]"),
        ([[1.0], [2.0]], [1.0, 2.0], [1.0, -2.0], ValueError, r"at least 0, .* -2.0 at \[1\]"),
        ([[1.0], [2.0]], [1.0, 2.0], [0.0, 0.0], ValueError, "sample_weight sums to 0"),
        ([[1.0], [2.0]], [1.0, 2.0], [1.0], ValueError, r"sample_weight has shape \[1\]"),
        (
            [[1e300], [2.0]],
            [1.0, 2.0],
            None,
            ValueError,
            r"do not fit float32.*1e\+300 at \[0, 0\]",
        ),
        ([["a"], ["b"]], [1.0, 2.0], None, TypeError, "X must hold real numbers.*list.*astype"),
        ([[1.0], [2.0]], [None, 2.0], None, TypeError, "y must hold real numbers, got object"),
        ([[1j], [2.0]], [1.0, 2.0], None, TypeError, "X must hold real numbers, got complex128"),
        (np.zeros((1, 1), "M8[D]"), [1.0], None, TypeError, "datetime64"),
        (np.ones((1, 1), "m8[s]"), [1.0], None, TypeError, r"durations, timedelta64\[s\].*X / np"),
        (
            [[1.0, 1e-50], [2.0, -1e-45]],
            [1.0, 2.0],
            None,
            ValueError,
            r"X\[:, 1\] holds numbers of at most 1e-45, and float32 takes .*1.2e-38 for 0: resc",
        ),
        ([[1.0], [2.0]], [1e-40, 0.0], None, ValueError, "y holds numbers of at most 1e-40"),
        (jnp.ones((1, 1), jnp.complex64), [1.0], None, TypeError, "complex64"),
        (np.ma.masked_equal([[1.0], [2.0]], 2), [1.0, 2.0], None, ValueError, "X masks 1 entries"),
        (jnp.array([[jnp.nan]]), [1.0], None, ValueError, r"X holds 1 .* nan at \[0, 0\]"),
    ],
)
def test_as_dataset_says_what_is_wrong(X, y, weight, kind, message):
    with pytest.raises(kind, match=message):
        as_dataset(X, y, weight)


@pytest.mark.parametrize(
    ("data", "kind", "message"),
    [
        (([[1.0]], [1.0]), TypeError, "must be a Dataset, got tuple: as_dataset"),
        (Dataset([[1.0]], jnp.ones(1)), TypeError, "X must be an array, got list: as_dataset"),
        (Dataset(np.ones((1, 1), int), jnp.ones(1)), TypeError, "X must hold floating.*int64"),
        (Dataset(jnp.ones((2, 1)), jnp.ones(1)), ValueError, r"y has shape \[1\]"),
        (Dataset(jnp.ones((2, 1)), jnp.ones(2), jnp.ones(3)), ValueError, "sample_weight has"),
        (Dataset(jnp.ones((2, 1)), jnp.ones(2), None, jnp.ones(3)), ValueError, "bias_column has"),
        (
            Dataset(jnp.ones((2, 1)), jnp.ones(2), total_weight=jnp.ones(2)),
            ValueError,
            "total_weight has shape",
        ),
    ],
)
@pytest.mark.parametrize("use", [mse, lambda p, data: standardize(data)])
def test_a_dataset_made_by_hand_is_checked_where_it_is_used(use, data, kind, message):
    with pytest.raises(kind, match=message):
        use(Params(jnp.ones(1), jnp.ones(())), data)


def test_as_dataset_works_while_tracing():
    @jax.jit
    def loss(X, y):
        return mse(Params(jnp.ones(1), None), as_dataset(X, y))

    assert float(loss(jnp.array([[1], [2]]), jnp.array([0.0, 0.0]))) == 2.5
    with pytest.raises(ValueError, match=r"y has shape \[3\]"):
        loss(jnp.ones((2, 1)), jnp.ones(3))


@pytest.mark.parametrize("weighted", [True, False])
def test_standardize_is_scikit_learns_scaler(weighted, dtype):
    scales = [1e-3, 1.0, 1e4, 1.0]
    _, data = make_problem(1, n=40, dtype=dtype, weighted=weighted, scales=scales)
    data = data._replace(X=data.X + jnp.asarray([[1.0, -5.0, 1e4, 0.0]], dtype))
    scaled, restore = standardize(data)
    peer = StandardScaler().fit(np.asarray(data.X, np.float64), sample_weight=data.sample_weight)
    tolerance = {"float32": 1e-5, "float64": 1e-12}[
        dtype
    ]  # the mean of column 0 is 1000 deviations
    assert relative_error(restore.mean, peer.mean_) < tolerance
    assert relative_error(restore.scale, peer.scale_) < tolerance
    expected = peer.transform(np.asarray(data.X, np.float64))
    assert relative_error(scaled.X, expected) < {"float32": 1e-3, "float64": 1e-12}[dtype]
    assert scaled.y is data.y


@pytest.mark.parametrize("k", [None, 2])
def test_restored_parameters_predict_the_same(k, dtype):
    _, data = make_problem(2, n=20, k=k, dtype=dtype, scales=[1.0, 10.0, 0.1, 1.0])
    jitted = jax.jit(lambda restore, params: restore(params))
    for center, intercept in [(True, True), (False, True), (False, False)]:
        scaled, restore = standardize(data, center=center)
        params, _ = make_problem(3, k=k, dtype=dtype, intercept=intercept)
        expected = predict(params, scaled.X)
        # A few roundings of numbers 10 times the predictions.
        tolerance = {"float32": 1e-5, "float64": 1e-14}[dtype]
        assert relative_error(predict(restore(params), data.X), expected) < tolerance
        assert relative_error(predict(jitted(restore, params), data.X), expected) < tolerance


def test_features_centred_without_a_bias_cannot_be_restored():
    _, data = make_problem(2)
    _, restore = standardize(data._replace(X=data.X + 1))
    with pytest.raises(ValueError, match=r"params has no bias.*center=False"):
        restore(Params(jnp.ones(4), None))


@pytest.mark.parametrize("value", [0.0, 0.1, -3e4, 1e-30])
def test_a_constant_feature_becomes_zero_and_keeps_its_scale(value, dtype):
    _, data = make_problem(4, n=33, dtype=dtype)
    scaled, restore = standardize(data._replace(X=data.X.at[:, 2].set(value)))
    assert not np.any(scaled.X[:, 2])
    np.testing.assert_allclose(restore.scale[2], 1.0)
    assert np.isfinite(scaled.X).all()


def test_a_feature_that_varies_little_is_not_constant():
    rng = np.random.default_rng(7)
    X = np.stack([np.full(200_000, 0.1), 1 + 1e-5 * rng.normal(size=200_000)], axis=1)
    scaled, restore = standardize(as_dataset(X.astype("float32"), X[:, 0]))
    assert not np.any(scaled.X[:, 0])
    # float32 keeps 7 digits of 1 ± 1e-5: two of the deviation.
    np.testing.assert_allclose(restore.scale[1], 1e-5, rtol=0.02)


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_standardize_neither_overflows_nor_underflows(size):
    _, data = make_problem(5)
    scaled, _ = standardize(data._replace(X=data.X * size))
    expected, _ = standardize(data)
    assert relative_error(scaled.X, expected.X) < 1e-5  # roundings of the means


def test_split_gives_every_row_to_one_side():
    X = np.arange(20.0).reshape(10, 2)
    data = as_dataset(X, X[:, 0], X[:, 1])
    train, held_out = split(data, jax.random.key(0), 0.25)
    assert train.X.shape == (7, 2)
    assert held_out.X.shape == (3, 2)
    rows = np.concatenate([train.X, held_out.X])
    np.testing.assert_array_equal(rows[np.argsort(rows[:, 0])], X)
    for part in (train, held_out):
        np.testing.assert_array_equal(part.y, part.X[:, 0])
        np.testing.assert_array_equal(part.sample_weight, part.X[:, 1])
    again, _ = split(data, jax.random.key(0), 0.25)
    np.testing.assert_array_equal(again.X, train.X)
    other, _ = split(data, jax.random.key(1), 0.25)
    assert not np.array_equal(other.X, train.X)


@pytest.mark.parametrize(
    ("fraction", "kind", "message"),
    [
        (0.0, ValueError, "fraction must be a number between 0 and 1, got 0.0"),
        (1.5, ValueError, "fraction must be"),
        (float("nan"), ValueError, "fraction must be"),
        ("half", TypeError, "fraction must be"),
        (0.999, ValueError, "leaves none to train on"),
    ],
)
def test_split_refuses_a_fraction(fraction, kind, message):
    _, data = make_problem(6)
    with pytest.raises(kind, match=message):
        split(data, jax.random.key(0), fraction)


def test_split_refuses_compressed_rows():
    _, data = make_problem(6)
    compressed = data._replace(bias_column=jnp.ones(50), total_weight=jnp.array(50.0))
    with pytest.raises(ValueError, match="its rows are not examples"):
        split(compressed, jax.random.key(0), 0.5)


@pytest.mark.parametrize("weight", [1e-39, 5e-40, 1e37, 1e38])
def test_weights_whose_sum_is_lost_are_refused(weight):
    X, y = np.arange(20.0)[:, None], np.arange(20.0)
    with pytest.raises(ValueError, match=r"float32 cannot divide by.*divide the weights by their"):
        as_dataset(X, y, np.full(20, weight))
    # A Dataset by hand, and one of unknown values, give no wrong number.
    data = as_dataset(X, y)._replace(sample_weight=jnp.full(20, weight, jnp.float32))
    params = init_params(data)
    for loss in (mse, mae):
        value, gradient = jax.value_and_grad(loss)(params, data)
        assert np.isnan(value)
        assert np.isnan(gradient.weights).all()
    traced = jax.jit(lambda w: mse(params, as_dataset(X, y, w)))
    assert np.isnan(traced(data.sample_weight))
    assert np.isnan(solve(data).params.weights).all()
    assert np.isnan(standardize(data)[1].scale).all()
    run = fit(mse, params, data, learning_rate=1e-3, num_steps=5)
    assert Status(int(run.status)) == Status.DIVERGED


@pytest.mark.parametrize("weight", [1e-36, 1e36])
def test_weights_of_any_usable_size_give_the_same_means(weight):
    _, data = make_problem(3, n=20, weighted=True)
    scaled = as_dataset(data.X, data.y, data.sample_weight * weight)
    params = init_params(data, key=jax.random.key(0))
    answers = [
        (
            jax.value_and_grad(mse)(params, one),
            solve(one).params,
            standardize(one)[1],
            diagnose(one).curvatures,
        )
        for one in (data, scaled)
    ]
    assert relative_error(*answers[::-1]) < 1e-5  # rounding of 20 rows


def test_a_batch_of_padding_weighs_nothing():
    data = as_dataset([[1.0], [2.0]], [1.0, 2.0])._replace(sample_weight=jnp.array([0.0, -0.0]))
    assert mse(init_params(data), data) == 0


def test_single_numbers_may_underflow_and_columns_of_zeros_stay():
    data = as_dataset([[1.0, 0.0], [1e-50, 0.0]], [0.0, 0.0])
    np.testing.assert_array_equal(data.X, [[1.0, 0.0], [0.0, 0.0]])


def test_small_features_stay_in_float64(x64):
    X = np.array([[1e-50], [2e-50]])
    np.testing.assert_array_equal(as_dataset(X, X[:, 0]).X, X)


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_half_precision_is_computed_in_float32(half):
    X, y = jnp.ones((3, 1), half), jnp.arange(3, dtype=half)
    data = as_dataset(X, y, jnp.ones(3, half))
    assert {str(column.dtype) for column in data[:3]} == {"float32"}
    with pytest.raises(TypeError, match=f"X holds {half}.*X.astype"):
        solve(Dataset(X, y))
    with pytest.raises(TypeError, match=f"weights holds {half}"):
        mse(Params(jnp.ones(1, half), None), data)


@pytest.mark.parametrize("source", ["float64", "float32", "int8", "bool"])
def test_the_numbers_of_a_caller_are_copied_once(source, monkeypatch):
    """Into memory that JAX takes as it is, so that later changes of the caller's do not show."""
    given = (np.arange(100_000).reshape(-1, 4) % 2).astype(source)
    copies, copied = [], _conversion._copied
    monkeypatch.setattr(
        _conversion, "_copied", lambda *args: copies.append(copied(*args)) or copies[-1]
    )
    X = as_dataset(np.asfortranarray(given), np.zeros(len(given))).X
    assert X.unsafe_buffer_pointer() == copies[0].ctypes.data
    expected = given.astype("float32")
    given[:] = 1
    np.testing.assert_array_equal(X, expected)
