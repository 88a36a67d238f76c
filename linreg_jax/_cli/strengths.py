"""The strengths of penalties, as they stand on the command line; knows no JAX."""

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from typing import NamedTuple

AUTO = "auto"
FOLDS = 5
_RULE = "a finite number, at least 0, or several with commas between them, or auto"


class Strengths(NamedTuple):
    """What one option says.

    Attributes:
      values: the strengths to choose from; one is taken as it is, none are to be looked for.
      share: of an elastic net, what of it is a lasso.
    """

    values: tuple[float, ...]
    share: float = 1.0

    @property
    def is_open(self) -> bool:
        """Whether there is something to choose."""
        return len(self.values) != 1


def add_penalties(parser: ArgumentParser) -> None:
    """The options that add penalties to a loss."""
    for name, read, metavar, what in (
        ("ridge", read_strengths, "S", "S times the squared weights"),
        ("lasso", read_strengths, "S", "S times the sizes of the weights"),
        ("elastic", read_elastic, "S:SHARE", "SHARE S times their sizes, (1 - SHARE) S/2 squared"),
    ):
        parser.add_argument(
            f"--{name}",
            type=read,
            nargs="?",
            const=read(AUTO),
            metavar=metavar,
            help=f"add {what} to the loss",
        )


def add_cross_validate(parser: ArgumentParser) -> None:
    """The option that chooses one of them."""
    parser.add_argument(
        "--cross-validate",
        type=_folds,
        nargs="?",
        const=FOLDS,
        metavar="K",
        help="choose the strength of the penalty that has none, or several, by its loss on each "
        f"of K parts of the rows, fitted without it (default: {FOLDS})",
    )


def read_strengths(text: str) -> Strengths:
    """`0.1`, `0.01,0.1,1` or `auto`.

    Raises:
      ArgumentTypeError: anything else.
    """
    return Strengths(() if text == AUTO else tuple(map(_strength, text.split(","))))


def read_elastic(text: str) -> Strengths:
    """The same, with the share of the lasso behind a colon, 1/2 where there is none.

    Raises:
      ArgumentTypeError: anything else.
    """
    strengths, colon, share_text = text.partition(":")
    share = 0.5
    if colon:
        try:
            share = float(share_text)
        except ValueError:
            share = -1.0
        if not 0 < share <= 1:
            raise ArgumentTypeError(
                f"the share of the lasso must be more than 0 and at most 1, got {share_text!r}"
            )
    return read_strengths(strengths)._replace(share=share)


def given(arguments: Namespace) -> dict[str, Strengths]:
    """What was said, by the names of the penalties.

    Raises:
      ValueError: there is something to choose and nothing to choose it by, or the other way round.
    """
    found = {name: getattr(arguments, name) for name in ("ridge", "lasso", "elastic")}
    found = {name: strengths for name, strengths in found.items() if strengths is not None}
    to_choose = [f"--{name}" for name, strengths in found.items() if strengths.is_open]
    if getattr(arguments, "cross_validate", None) is None:
        if to_choose:
            raise ValueError(
                f"{to_choose[0]} needs one strength, {to_choose[0]} 0.1; fit chooses one "
                "with --cross-validate"
            )
    elif len(to_choose) != 1:
        got = " and ".join(to_choose) or "nothing to choose"
        raise ValueError(
            f"--cross-validate chooses the strength of one penalty, got {got}: pass --ridge, "
            "--lasso or --elastic without a strength, or with several, --lasso 0.01,0.1,1"
        )
    return found


def _strength(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise ArgumentTypeError(f"must be {_RULE}, got {text!r}")
    return value


def _folds(text: str) -> int:
    value = int(text) if text.isdecimal() else 0
    if value < 2:
        raise ArgumentTypeError(f"must be a whole number, at least 2, got {text!r}")
    return value
