"""The shuffle: a bijection for every n, and as random as it should be.

Seeds are fixed, so that nothing here fails by chance. A p-value is refused below 1e-4: of the about
a hundred that are computed, one that low is expected once in a hundred suites.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from scipy import stats

from linreg_jax import shuffling
from linreg_jax.shuffling import shuffled_index

LOWEST_P = 1e-4
NUM_ORDERS = 2**15
# Around the changes of method, powers of two, primes; 10,012 is the one with most numbers to spare.
SIZES = [1, 2, 3, 4, 5, 7, 8, 63, 64, 65, 66, 97, 127, 128, 129, 1023, 1024, 1025, 4096]
SIZES += [10_007, 10_012, 65_536, 65_537]
SOURCES = ["keys", "epochs"]


@functools.partial(jax.jit, static_argnums=1)
def some(key, n, positions, epoch):
    return shuffled_index(key, n, positions, epoch)


def whole_order(key, n, epoch):
    return np.asarray(some(key, n, np.arange(n), epoch))


@functools.cache
def draw(n, positions, source):
    """[count, len(positions)] the examples at some positions: many keys, or one key's epochs."""
    many, positions = jnp.arange(NUM_ORDERS), jnp.array(positions)
    if source == "keys":
        images = jax.vmap(lambda seed: shuffled_index(jax.random.key(seed), n, positions))
    else:
        key = jax.random.key(0)
        images = jax.vmap(lambda epoch: shuffled_index(key, n, positions, epoch))
    return np.asarray(jax.jit(images)(many)).astype(np.int64)


def p_uniform(values, cells):
    """Chi-square p-value of values in [0, cells) against equal chances."""
    counts = np.bincount(values, minlength=cells)
    return stats.chisquare(counts).pvalue


def p_places(images):
    """p-value of how often each example stood at each position, from whole orders [count, n].

    Every row and every column of the table of counts sums to the number of orders, and the entries
    of a random permutation matrix have covariance 1 / (n - 1) on the (n - 1)² dimensions left.
    """
    count, n = images.shape
    table = np.bincount((np.arange(n)[None, :] * n + images).ravel(), minlength=n * n)
    statistic = np.sum((table - count / n) ** 2) / (count / n) * (n - 1) / n
    return stats.chi2.sf(statistic, (n - 1) ** 2)


def p_pairs(images, n):
    """p-values of two positions' examples [count, 2]: of the pair, and of their distance."""
    first, second = images.T
    distance = (second - first) % n  # 1 to n - 1
    pair = p_uniform(first * (n - 1) + distance - 1, n * (n - 1))
    return pair, p_uniform(distance - 1, n - 1)


@pytest.mark.parametrize("n", SIZES)
def test_every_example_has_one_position(n):
    for seed in range(3):
        order = whole_order(jax.random.key(seed), n, seed)
        assert order.dtype == np.int32
        np.testing.assert_array_equal(np.sort(order), np.arange(n))


@pytest.mark.parametrize("n", [2**31 - 1, 2**31 - 2, 2**31 - 19, 2**30 + 1])
def test_largest_sizes(n):
    """Positions at both ends and the numbers around the spare ones: in range and all different."""
    positions = np.concatenate([np.arange(5000), np.arange(n - 5000, n)]).astype(np.int32)
    images = np.asarray(some(jax.random.key(0), n, positions, 0))
    assert images.min() >= 0
    assert images.max() < n
    assert len(np.unique(images)) == 10_000


def test_sides_cover_every_size_within_16_bits():
    for n in [*range(65, 3000), *range(2**31 - 200, 2**31)]:
        a, b = shuffling._sides(n)
        assert n <= a * b <= n + 64  # 41 is the most that was found
        assert max(a, b) <= 2**16


@pytest.mark.parametrize("n", [7, 1009])
def test_a_part_is_the_part_of_the_whole(n):
    key = jax.random.key(3)
    order = whole_order(key, n, 2)
    grid = np.array([[0, n - 1], [n // 2, 0]])
    np.testing.assert_array_equal(some(key, n, grid, 2), order[grid])
    assert some(key, n, 4, 2) == order[4]
    mapped = jax.vmap(some, (None, None, 0, None))(key, n, jnp.arange(n), 2)
    np.testing.assert_array_equal(mapped, order)
    epochs = jax.vmap(some, (None, None, None, 0))(key, n, jnp.arange(n), jnp.arange(4))
    np.testing.assert_array_equal(epochs[2], order)


@pytest.mark.parametrize("n", [9, 1009])
def test_the_same_everywhere(n):
    """Old and new keys, any integer dtype, x64, jit, positions spread over eight devices."""
    key = jax.random.key(3)
    order = whole_order(key, n, 2)
    np.testing.assert_array_equal(
        some(jax.random.PRNGKey(3), n, np.arange(n, dtype="i2"), 2), order
    )
    with jax.enable_x64(True):
        wide = some(key, n, jnp.arange(n, dtype="int64"), jnp.int64(2))
    assert wide.dtype == np.int32
    np.testing.assert_array_equal(wide, order)
    mesh = Mesh(np.array(jax.devices()), ("rows",))
    positions = np.arange(n - n % 8)
    spread = jax.device_put(positions, NamedSharding(mesh, PartitionSpec("rows")))
    np.testing.assert_array_equal(some(key, n, spread, 2), order[: n - n % 8])


def test_the_numbers_stay():
    """Saved runs continue with them: a change here changes what `fit` does after `load`."""
    key = jax.random.key(0)
    assert whole_order(key, 10, 1).tolist() == [4, 0, 1, 5, 9, 8, 3, 2, 7, 6]
    assert some(key, 1000, np.arange(5), 1).tolist() == [97, 43, 915, 39, 699]
    assert some(key, 2**31 - 1, np.arange(3), 1).tolist() == [34718562, 970763417, 807881526]


def test_new_keys_and_epochs_do_not_compile_again():
    whole_order(jax.random.key(0), 11, 0)
    before = some._cache_size()
    whole_order(jax.random.key(1), 11, 7)
    assert some._cache_size() == before


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("n", [2, 3, 5, 64, 67])
def test_every_position_is_equally_likely(n, source):
    assert p_places(draw(n, range(n), source)) > LOWEST_P


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("n", [3, 5])
def test_every_permutation_is_equally_likely(n, source):
    images = draw(n, range(n), source)
    _, which, counts = np.unique(
        images @ n ** np.arange(n), return_inverse=True, return_counts=True
    )
    assert len(counts) == {3: 6, 5: 120}[n]
    assert p_uniform(which, len(counts)) > LOWEST_P


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("n", [5, 64, 65, 256])
def test_orders_are_unrelated_within_and_between(n, source):
    """Neighbours, and positions on one side of the network, go to unrelated places; and what stands
    at a position says nothing about the next epoch's, or the next key's."""
    side = shuffling._sides(n)[1] if n > 64 else 2
    images = draw(n, (0, 1, side, n - 1), source)
    for one, other in [(0, 1), (0, 2), (1, 3), (2, 3)]:
        assert min(p_pairs(images[:, [one, other]], n)) > LOWEST_P
    for image in images.T:
        assert p_uniform(image[:-1] * n + image[1:], n * n) > LOWEST_P


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("n", [64, 67])
def test_fixed_points_and_successors_are_poisson(n, source):
    """Both counts are Poisson(1) but for 1/n: chi-square cannot see that."""
    images = draw(n, range(n), source)
    fixed = np.sum(images == np.arange(n)[None, :], axis=1)
    followed = np.sum(np.diff(images, axis=1) == 1, axis=1)
    expected = stats.poisson(1).pmf(np.arange(6))
    expected = np.append(expected, 1 - expected.sum()) * len(images)
    for counted in (fixed, followed):
        counts = np.bincount(np.minimum(counted, 6), minlength=7)
        assert stats.chisquare(counts, expected).pvalue > LOWEST_P


@pytest.mark.parametrize("n", [64, 1009, 65_537])
def test_no_correlation_along_or_between_epochs(n):
    """Each correlation times sqrt(n) is a standard normal: 40 squares sum to chi-square(40)."""
    ranks = np.stack([whole_order(jax.random.key(0), n, epoch) for epoch in range(41)])
    ranks = (ranks - (n - 1) / 2) / np.sqrt((n * n - 1) / 12)
    along = [np.mean(order * np.roll(order, lag)) for order in ranks[:10] for lag in (1, 2, 3, 7)]
    between = np.mean(ranks[1:] * ranks[:-1], axis=1)
    with_position = np.mean(ranks[1:] * np.sort(ranks[0])[None, :], axis=1)
    for correlations in (along, between, with_position):
        statistic = n * np.sum(np.square(correlations))
        assert LOWEST_P < stats.chi2.sf(statistic, 40) < 1 - LOWEST_P


def rotated(key, n, position):
    """Uniform at every position, but neighbours stay neighbours."""
    return (position + jax.random.randint(key, (), 0, n)) % n


def with_rounds(rounds):
    def shuffled(key, n, position):
        return shuffling._walk(jax.random.bits(key, (rounds,), jnp.uint32), n, position)

    return shuffled


def folded(key, n, position):
    """A network on more numbers than n, brought back by a remainder: not uniform."""
    a, b = shuffling._sides(n + 3)
    return shuffling._network(jax.random.bits(key, (8,), jnp.uint32), a, b, position) % n


@pytest.mark.parametrize("wrong", [rotated, with_rounds(2), with_rounds(4)])
def test_the_statistics_catch_neighbours_that_stay(wrong):
    positions = jnp.array([0, 1], jnp.uint32)
    keys = jax.random.split(jax.random.key(0), NUM_ORDERS)
    images = jax.jit(jax.vmap(lambda key: wrong(key, 65, positions)))(keys)
    images = np.asarray(images).astype(np.int64)
    images = images[images[:, 0] != images[:, 1]]
    assert min(p_pairs(images, 65)) < LOWEST_P


def test_the_statistics_catch_unequal_places():
    positions = jnp.arange(65, dtype=jnp.uint32)
    keys = jax.random.split(jax.random.key(0), NUM_ORDERS)
    images = np.asarray(jax.jit(jax.vmap(lambda key: folded(key, 65, positions)))(keys))
    assert p_places(images.astype(np.int64)) < LOWEST_P


@pytest.mark.parametrize(
    ("n", "position", "epoch", "error", "message"),
    [
        (0, 0, 0, ValueError, "n must be an integer of 1 or more, got 0"),
        (-3, 0, 0, ValueError, "got -3"),
        (2**31, 0, 0, ValueError, "n must be at most 2147483647, as positions are int32, got"),
        (5.0, 0, 0, TypeError, "n must be a Python integer, got 5.0"),
        (5, 1.5, 0, TypeError, "position must hold integers, got 1.5"),
        (5, 1, 0.5, TypeError, "epoch must hold integers, got 0.5"),
        (5, 1, 2**32, ValueError, "epoch must fit in 32 bits, got 4294967296: .*fold_in"),
        (5, 1, np.arange(3), ValueError, "epoch has shape \\[3\\].*jax.vmap"),
    ],
)
def test_bad_arguments(n, position, epoch, error, message):
    with pytest.raises(error, match=message):
        shuffled_index(jax.random.key(0), n, position, epoch)


def test_n_is_known_while_tracing():
    with pytest.raises(TypeError, match="part of the compiled program"):
        jax.jit(lambda n: shuffled_index(jax.random.key(0), n, 0))(5)
