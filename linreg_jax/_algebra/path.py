"""Gradient descent on a quadratic after t steps, and the derivative of where it is then.

With H = V diag(h) Vᵀ the Hessian and g the gradient at the start::

    theta(t) = theta(0) + V psi(h) Vᵀ g,    psi(h) = (f(h) - f(0)) / h = f[h, 0]

    f(h)     = upper left entry of M(h)^t,  M(h) = [[1 - rate h, -momentum], [rate h, momentum]]

As H changes, so does its function psi(H), by its divided differences along the eigenvectors::

    Vᵀ d psi(H) V = psi[h_i, h_j] (Vᵀ dH V)_ij,    psi[h_i, h_j] = f[h_i, h_j, 0]

Divided differences are entries of powers of a larger matrix, so that nothing is divided and equal
eigenvalues are as good as others::

    [M(a)   E ]^t    [M(a)^t  M[a, b]]
    [ 0   M(b)]    = [  0     M(b)^t ],    E = dM / dh

Source: Higham 2008, Functions of Matrices, theorems 3.11 and 4.11 and section 3.2.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.custom_derivatives import SymbolicZero

from linreg_jax._algebra.linalg import graded_svd
from linreg_jax._algebra.quadratic import Quadratic
from linreg_jax._arithmetic.division import divide
from linreg_jax._host import namespace_of, while_loop
from linreg_jax._kernels import matmul
from linreg_jax._typing import AnyArray

_BITS = 31  # of a number of steps


@jax.custom_jvp
def descend(
    fixed: Quadratic,
    rank: Array,
    Q: Array,
    theta: Array,
    rates: Array,
    momentum: Array,
    steps: Array,
) -> tuple[Array, Array]:
    """Parameters [p, r, s, k] and losses [r, s] of gradient descent from theta [p, k].

    Args:
      fixed: the loss, as numbers; F [p, p].
      rank: [] of F.
      Q: [p + k, p + k] with the loss (theta, -1)ᵀ Q (theta, -1) / 2, for its derivatives.
      theta: [p, k], where it starts.
      rates: [r].
      momentum: [].
      steps: [s] whole numbers.
    """
    return descended(fixed, rank, theta, rates, momentum, steps)


def descended(
    fixed: Quadratic,
    rank: AnyArray,
    theta: AnyArray,
    rates: AnyArray,
    momentum: AnyArray,
    steps: AnyArray,
) -> tuple[AnyArray, AnyArray]:
    """`descend` without its derivatives."""
    eigen = _eigen(fixed, rank, theta)
    moved, values = _moved(eigen, rates, momentum, steps)
    return _at(theta, eigen[0], moved), fixed.rest + (values * values).sum(axis=(0, 3)) / 2


def _eigen(
    fixed: Quadratic, rank: AnyArray, theta: AnyArray
) -> tuple[AnyArray, AnyArray, AnyArray]:
    """V [p, p], the roots s [p] of the eigenvalues, and (F V / s)ᵀ (F theta - z) [p, k]."""
    U, s, Vt = graded_svd(fixed.F)
    xp = namespace_of(s)
    s = xp.where(xp.arange(s.shape[0]) < rank, s, 0)
    # sqrt(h) times what is left of the way, which needs no division by h.
    return Vt.T, s, matmul(U.T, matmul(fixed.F, theta) - fixed.z)


def _moved(
    eigen: tuple[AnyArray, AnyArray, AnyArray],
    rates: AnyArray,
    momentum: AnyArray,
    steps: AnyArray,
) -> tuple[AnyArray, AnyArray]:
    """How far along each eigenvector, and sqrt(h) times what is left: [p, r, s, k] each."""
    _, s, start = eigen
    xp = namespace_of(s)
    left, change = _powers(xp.outer(s * s, rates), momentum, steps)  # [p, r, s] each
    shape = (*left.shape, start.shape[1])
    per_unit = divide(1.0, s)
    moved = _times(change[..., None], (per_unit[:, None] * start)[:, None, None, :], shape)
    return moved, _times(left[..., None], start[:, None, None, :], shape)


def _at(theta: AnyArray, V: AnyArray, moved: AnyArray) -> AnyArray:
    """[p, r, s, k] the parameters after a way given along the eigenvectors."""
    along = matmul(V, moved.reshape(moved.shape[0], -1)).reshape(moved.shape)
    return theta[:, None, None, :] + along


def _derivative(primals: tuple, tangents: tuple) -> tuple[tuple, tuple]:
    fixed, rank, Q, theta, rates, momentum, steps = primals
    fixed = once(fixed, Q)
    Q_dot, theta_dot, rates_dot, momentum_dot = (
        jnp.zeros(t.shape, t.dtype) if isinstance(t, SymbolicZero) else t for t in tangents[2:6]
    )
    p = theta.shape[0]
    H_dot, c_dot = Q_dot[:p, :p], Q_dot[:p, p:]
    V, s, start = eigen = _eigen(fixed, rank, theta)
    h, gradient = s * s, s[:, None] * start
    moved, values = _moved(eigen, rates, momentum, steps)
    out = _at(theta, V, moved), fixed.rest + jnp.sum(values * values, axis=(0, 3)) / 2

    zero = jnp.zeros((), h.dtype)
    one_point = functools.partial(_divided_difference, (h, zero), steps=steps)
    psi, psi_dot = jax.jvp(one_point, (rates, momentum), (rates_dot, momentum_dot))
    pairs = _divided_difference((h[:, None], h[None, :], zero), rates, momentum, steps=steps)
    start_dot = matmul(V.T, theta_dot)
    gradient_dot = matmul(V.T, matmul(H_dot, theta) - c_dot) + h[:, None] * start_dot
    turned = matmul(matmul(V.T, H_dot), V)[:, :, None, None] * pairs  # [p, p, r, s]
    way_dot = (
        start_dot[:, None, None, :]
        + psi[..., None] * gradient_dot[:, None, None, :]
        + psi_dot[..., None] * gradient[:, None, None, :]
        + jnp.einsum("ijrs,jk->irsk", turned, gradient, precision="highest")
    )
    at_dot = _at(jnp.zeros_like(theta), V, way_dot)
    # The loss there changes with the parameters and, where they are, with Q.
    pulled = jnp.einsum("ij,jrsk->irsk", H_dot, out[0], precision="highest") / 2
    by_Q = jnp.sum(out[0] * (pulled - c_dot[:, None, None, :]), axis=(0, 3))
    by_Q = by_Q + jnp.trace(Q_dot[p:, p:]) / 2
    return out, (at_dot, by_Q + jnp.sum(s[:, None, None, None] * values * way_dot, axis=(0, 3)))


descend.defjvp(_derivative, symbolic_zeros=True)


@jax.custom_jvp
def once(fixed: Quadratic, Q: Array) -> Quadratic:
    """`fixed`, which would not follow a second derivative with respect to Q."""
    return fixed


def _refuse(primals: tuple, tangents: tuple) -> tuple[Quadratic, Quadratic]:
    fixed, _ = primals
    if not isinstance(tangents[1], SymbolicZero):
        raise NotImplementedError(
            "trajectory has no second derivatives with respect to the data or the ridge strength: "
            "differentiate a loop of gradient steps instead"
        )
    return fixed, jax.tree.map(jnp.zeros_like, fixed)


once.defjvp(_refuse, symbolic_zeros=True)


def _divided_difference(
    points: tuple[Array, ...], rates: Array, momentum: Array, *, steps: Array
) -> Array:
    """f[points], of f(h) the upper left entry of M(h)^t: [..., r, s] for points [...] each."""
    shape = jnp.broadcast_shapes(*(point.shape for point in points))
    dtype, num_points = rates.dtype, len(points)
    slope = jnp.array([[-1, 0], [1, 0]], dtype)
    at_zero = jnp.array([[1, 0], [0, 0]], dtype) + momentum * jnp.array([[0, -1], [0, 1]], dtype)
    E = rates[:, None, None] * slope[None]  # [r, 2, 2]
    rows = []
    for i, point in enumerate(points):
        E_here = jnp.broadcast_to(E, (*shape, *E.shape))
        h = jnp.broadcast_to(point, shape)[..., None, None, None]
        M = jnp.broadcast_to(at_zero, E_here.shape) + h * E_here
        blocks = [jnp.zeros_like(M)] * num_points
        blocks[i] = M
        if i + 1 < num_points:
            blocks[i + 1] = E_here
        rows.append(jnp.concatenate(blocks, axis=-1))
    A = jnp.concatenate(rows, axis=-2)[..., None, :, :]  # [..., r, 1, 2 m, 2 m]
    size = 2 * num_points
    x = jnp.zeros((*A.shape[:-3], steps.shape[0], size, 1), dtype).at[..., size - 2, 0].set(1)
    identity = jnp.eye(size, dtype=dtype)

    def double(i: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        A, x = carry
        t = lax.shift_right_logical(steps, i.astype(steps.dtype))
        chosen = jnp.broadcast_to(((t & 1) == 1)[:, None, None], x.shape[:-1] + (size,))
        A_or_1 = jnp.where(chosen, A, jnp.broadcast_to(identity, chosen.shape))
        # No further than needed: what has overflowed would make NaN of a derivative of 0.
        return jnp.where(jnp.any(t > 1), matmul(A, A), A), matmul(A_or_1, x)

    _, x = lax.fori_loop(0, _BITS, double, (A, x))
    return x[..., 0, 0]


def _powers(decay: AnyArray, momentum: AnyArray, steps: AnyArray) -> tuple[AnyArray, AnyArray]:
    """The upper left entry of M^t, M = [[1 - decay, -momentum], [decay, momentum]], by squaring.

    Everything is kept twice, as M^t and as M^t - 1. The second keeps its digits while little has
    happened yet, where the first would lose those of a small decay; the first keeps them when
    little is left.

    Args:
      decay: [p, r] learning rate times curvature.
      momentum: [].
      steps: [s].

    Returns:
      `(power, power - 1)`, [p, r, s] each.
    """

    xp = namespace_of(decay)

    def both(power: AnyArray, minus_one: AnyArray) -> tuple[AnyArray, AnyArray]:
        early = xp.abs(minus_one) < 0.5
        return xp.where(early, 1 + minus_one, power), xp.where(early, minus_one, power - 1)

    def step(carry: tuple) -> tuple:
        t, (a, a1, b, c, d, d1), (x, x1, v) = carry
        # [x v] becomes M [x v] where the bit is set: M = [[a b] [c d]], a1 = a - 1, d1 = d - 1.
        moved, moved1 = both(_times(a, x) + _times(b, v), x1 + _times(a1, x) + _times(b, v))
        bit = (t & 1) == 1
        state = (
            xp.where(bit, moved, x),
            xp.where(bit, moved1, x1),
            xp.where(bit, _times(c, x) + _times(d, v), v),
        )
        trace, bc = a + d, _times(b, c)
        a, a1 = both(_times(a, a) + bc, 2 * a1 + _times(a1, a1) + bc)
        d, d1 = both(_times(d, d) + bc, 2 * d1 + _times(d1, d1) + bc)
        return t >> 1, (a, a1, _times(b, trace), _times(c, trace), d, d1), state

    shape = (*decay.shape, steps.shape[0])
    one, zero = xp.ones(shape, decay.dtype), xp.zeros(shape, decay.dtype)
    decay = decay[:, :, None]
    momentum = xp.broadcast_to(momentum, decay.shape)
    matrix = (1 - decay, -decay, -momentum, decay, momentum, momentum - 1)
    start = (xp.broadcast_to(steps, shape), matrix, (one, zero, zero))
    _, _, (x, x1, _) = while_loop(lambda carry: xp.any(carry[0] > 0), step, start, like=decay)
    return x, x1


def _times(a: AnyArray, b: AnyArray, shape: tuple[int, ...] | None = None) -> AnyArray:
    """a b, and 0 where either is 0 and the other has overflowed."""
    xp, shape = namespace_of(a), shape or np.broadcast_shapes(a.shape, b.shape)
    a, b = xp.broadcast_to(a, shape), xp.broadcast_to(b, shape)
    return xp.where((a == 0) | (b == 0), 0, a * b)
