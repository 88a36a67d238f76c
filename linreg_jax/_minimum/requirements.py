"""What a loss must be for its minimum to be found."""

from linreg_jax._loss import Loss
from linreg_jax.gradients import LossFunction, require_loss


def require_solvable(loss: LossFunction, caller: str) -> Loss:
    """The loss, which is convex, and smooth or made of parabolas and lines.

    Raises:
      TypeError: not a loss of this package.
      ValueError: another loss, or a penalty that is not ridge, nor a lasso of a squared loss.
    """
    known = require_loss(loss, caller)
    if not known.is_convex:
        raise ValueError(
            f"{caller} needs a convex loss, got {loss}, which does not say that it is one: a loss "
            "whose psi never falls states is_convex = True; fit takes any loss, step by step"
        )
    is_smooth = known.curvature_bound is not None
    if not (is_smooth or (known.is_piecewise_quadratic and known.kinks)):
        raise ValueError(
            f"{caller} needs a loss that is smooth, or made of parabolas and lines, got {loss}: a "
            "smooth one states its curvature_bound, the other is_piecewise_quadratic = True and "
            "its kinks; fit takes any loss, step by step"
        )
    for penalty in known.penalties:
        if penalty.is_quadratic or (penalty.is_absolute and known.is_quadratic):
            continue
        kinds = (
            "a lasso for squared losses only"
            if penalty.is_absolute
            else "ridge and lasso penalties only"
        )
        raise ValueError(f"{caller} takes {kinds}, got {loss}: fit takes any penalty, step by step")
    return known


def is_solvable(loss: LossFunction) -> bool:
    """Whether `require_solvable` lets it pass."""
    try:
        require_solvable(loss, "solve")
    except (TypeError, ValueError):
        return False
    return True
