"""What a loss must be for its minimum to be found."""

from linreg_jax._loss import Loss
from linreg_jax.gradients import LossFunction, require_loss


def require_solvable(loss: LossFunction, caller: str) -> Loss:
    """The loss, which is convex, and smooth or made of parabolas and lines.

    Raises:
      TypeError: not a loss of this package.
      ValueError: another loss; a penalty that is neither ridge nor a lasso, or a lasso of a smooth
        loss that is not made of parabolas and lines.
    """
    known = require_loss(loss, caller)
    if not known.is_convex:
        raise ValueError(
            f"{caller} needs a convex loss, got {loss}, which does not say that it is one: a loss "
            "whose psi never falls states is_convex = True; fit takes any loss, step by step"
        )
    is_smooth = known.curvature_bound is not None
    is_made_of_pieces = known.is_quadratic or (known.is_piecewise_quadratic and bool(known.kinks))
    if not (is_smooth or is_made_of_pieces):
        raise ValueError(
            f"{caller} needs a loss that is smooth, or made of parabolas and lines, got {loss}: a "
            "smooth one states its curvature_bound, the other is_piecewise_quadratic = True and "
            "its kinks; fit takes any loss, step by step"
        )
    for penalty in known.penalties:
        if penalty.is_quadratic or (penalty.is_absolute and is_made_of_pieces):
            continue
        kinds = (
            "a lasso with losses made of parabolas and lines only, such as mse, huber and quantile"
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
