"""The arguments of the command line: what there is, what it says of itself, what it refuses."""

import argparse
import csv
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn, TypeVar

from linreg_jax._cli import texts
from linreg_jax._cli.strengths import add_cross_validate, add_penalties

if TYPE_CHECKING:
    from linreg_jax.losses import Loss

# Nothing here imports JAX, so that --help and a wrong option are answered at once.

Number = TypeVar("Number", int, float)

OPTIMIZERS = ("sgd", "momentum", "nesterov", "adam", "rmsprop", "adagrad")
PICTURES = ("surface", "learning-rates", "losses", "fit", "gradients", "animation")

COVARIANCES = ("classical", "hc0", "hc1", "hc2", "hc3", "nid", "none")

_LOSSES = ("mse", "half_mse", "sse", "half_sse", "mae")
_LOSSES_OF_NUMBER = ("huber", "quantile", "epsilon_insensitive")


class _Parser(argparse.ArgumentParser):
    """Errors in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} ({self.prog} --help)\n")


def make_parser() -> argparse.ArgumentParser:
    """The parser; what it returns has `command`, the name of a function of `_cli.commands`."""
    parser = _Parser(
        prog="linreg-jax",
        description=texts.DESCRIPTION,
        epilog=texts.EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_demonstration(parser)
    subparsers = parser.add_subparsers(title="commands", metavar="", parser_class=_Parser)

    def command(name: str, help: str, epilog: str | None = None) -> argparse.ArgumentParser:
        sub = subparsers.add_parser(
            name,
            help=help,
            description=help[0].upper() + help[1:] + ".",
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        sub.add_argument(
            "file",
            type=_file_or_stream,
            metavar="FILE",
            help="CSV with a line of names, or .npz; - for CSV on standard input",
        )
        _add_no_cache(sub, default=argparse.SUPPRESS)  # it may stand before the command
        sub.set_defaults(command=name)
        return sub

    fits = "fit a linear model to the columns of a file"
    _add_fit(command("fit", fits, texts.FIT_EXAMPLES))
    predicts = "predict with a model that fit --save wrote"
    _add_predict(command("predict", predicts, texts.PREDICT_NOTES))
    _add_data(command("check", "check the gradients of a loss on a file"))
    says = "say which learning rates explode, and which is best"
    _add_data(command("diagnose", says))
    draws = "draw a fit, its losses or its loss surface"
    _add_plot(command("plot", draws, texts.PLOT_EXAMPLES))
    return parser


def _add_demonstration(parser: argparse.ArgumentParser) -> None:
    """What stands before a command, or without one."""
    # Names of their own, or the defaults of a command would hide that they were given before it.
    parser.add_argument(
        "--seed", type=_seed, dest="hubble_seed", metavar="K", help="start from random parameters"
    )
    parser.add_argument(
        "--float64", dest="hubble_float64", action="store_true", help="compute in float64"
    )
    parser.add_argument(
        "--plot",
        type=_file,
        dest="hubble_plot",
        metavar="FILE",
        help="draw the fit and its loss surface",
    )
    parser.add_argument("--tour", dest="hubble_tour", action="store_true", help=texts.TOUR)
    _add_no_cache(parser, default=False)
    parser.set_defaults(command="demonstration")


def _add_no_cache(parser: argparse.ArgumentParser, *, default: object) -> None:
    parser.add_argument(
        "--no-cache",
        action="store_true",
        default=default,
        help="keep no compiled programs on disk, and take none from there",
    )


def _add_fit(parser: argparse.ArgumentParser) -> None:
    _add_data(parser)
    add_cross_validate(parser)
    _add_training(parser)
    parser.add_argument(
        "--test-fraction", type=_fraction, metavar="F", help="share of rows held out"
    )
    parser.add_argument(
        "--covariance",
        choices=COVARIANCES,
        default="classical",
        help="of the standard errors; none: leave them out (default: classical)",
    )
    parser.add_argument("--save", type=_file, metavar="FILE", help="write the model, for predict")
    parser.add_argument(
        "--plot", type=_file, metavar="FILE", help="draw the fit and the losses (.png, .pdf, .svg)"
    )
    parser.add_argument(
        "--json",
        type=_file_or_stream,
        metavar="FILE",
        help="write all results as JSON; - for the terminal",
    )


def _add_predict(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", required=True, type=_file, metavar="FILE", help="written by fit --save"
    )
    parser.add_argument(
        "--out",
        type=_file_or_stream,
        metavar="FILE",
        help="CSV to write (default: -, the terminal)",
    )
    parser.add_argument(
        "--interval",
        type=_fraction,
        metavar="L",
        help="add two columns, between which another observation lies with probability L",
    )
    parser.add_argument(
        "--drop-missing", action="store_true", help="predict nan where a row misses a value"
    )
    parser.set_defaults(float64=True)


def _add_plot(parser: argparse.ArgumentParser) -> None:
    _add_data(parser)
    _add_training(parser)
    parser.add_argument(
        "--out", required=True, type=_file, metavar="FILE", help="picture (.png, .pdf, .svg, .gif)"
    )
    parser.add_argument("--kind", choices=PICTURES, default="surface", help="see below")
    parser.add_argument(
        "--over", type=_names, metavar="A,B", help="two features, or one and intercept"
    )
    parser.add_argument("--rates", type=_rates, metavar="R,R", help="learning rates to compare")


def _add_data(parser: argparse.ArgumentParser) -> None:
    """The columns to read, and what is minimised on them."""
    _add_columns(parser)
    _add_model(parser)


def _add_columns(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--target", required=True, metavar="COLUMN", help="what to predict")
    parser.add_argument(
        "--features", type=_names, metavar="A,B", help="from what (default: all other columns)"
    )
    parser.add_argument(
        "--drop-missing", action="store_true", help="leave out the rows that miss a value"
    )


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--loss",
        default="mse",
        metavar="LOSS",
        help=f"{', '.join(_LOSSES)}, log_cosh, huber:1.35, quantile:0.9 or epsilon_insensitive:0.1 "
        "(default: mse)",
    )
    add_penalties(parser)
    parser.add_argument(
        "--no-standardize",
        dest="standardize",
        action="store_false",
        help="leave the features in the units of the file",
    )
    parser.add_argument("--seed", type=_seed, default=0, metavar="K", help="of whatever is random")
    parser.add_argument("--float64", action="store_true", help="compute in float64")


def _add_training(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--optimizer", choices=OPTIMIZERS, default="sgd", help="(default: sgd)")
    parser.add_argument(
        "--learning-rate",
        type=_rate,
        metavar="R",
        help="a number, or auto: the best constant rate where there is one, else one that "
        "falls ten-thousandfold (default: auto)",
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--steps", type=_count, metavar="N", help="(default: at most 10000)")
    length.add_argument("--epochs", type=_count, metavar="N", help="times to see every row")
    parser.add_argument("--batch-size", type=_count, metavar="B", help="rows a step (default: all)")


def _checked(
    convert: Callable[[str], Number], accept: Callable[[Number], bool], rule: str
) -> Callable[[str], Number]:
    """An argparse type: text -> number, or an error that says the rule."""

    def read(text: str) -> Number:
        value: Number | None
        try:
            value = convert(text)
        except ValueError:
            value = None
        if value is None or not accept(value):
            raise argparse.ArgumentTypeError(f"must be {rule}, got {text!r}")
        return value

    return read


def _is_positive(value: float) -> bool:
    return 0 < value < float("inf")


_count = _checked(int, lambda value: 1 <= value < 2**31, "a whole number from 1 to 2147483647")
_fraction = _checked(float, lambda value: 0 < value < 1, "a number between 0 and 1")
_positive = _checked(float, _is_positive, "a finite number more than 0")
_seed = _checked(int, lambda value: 0 <= value < 2**32, "a whole number from 0 to 4294967295")


def _file_or_stream(text: str) -> str:
    """The name of a file, or - for a stream."""
    if not text:
        raise argparse.ArgumentTypeError("must be the name of a file, got ''")
    return text


def _file(text: str) -> str:
    if text in ("", "-"):
        raise argparse.ArgumentTypeError(f"must be the name of a file, got {text!r}")
    return text


def _rate(text: str) -> float | None:
    try:
        return None if text == "auto" else _positive(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}; or auto") from None


def _names(text: str) -> list[str]:
    """`a,"b, c"` -> the names, quoted as in a CSV file."""
    names = [name.strip() for name in next(csv.reader([text]), [])]
    if not all(names) or not names:
        raise argparse.ArgumentTypeError(f"must be names with commas between them, got {text!r}")
    return names


def _rates(text: str) -> list[float]:
    return [_positive(rate) for rate in text.split(",")]


def read_loss(text: str) -> "Loss":
    """`huber:1.35` -> the loss. Imports JAX, so it is called when all else has been parsed.

    Raises:
      ArgumentTypeError: there is no such loss, or it takes no such number.
    """
    from linreg_jax import losses

    name, colon, number = text.partition(":")
    try:
        if name in _LOSSES and not colon:
            return getattr(losses, name)
        if name == "log_cosh" and not colon:
            return losses.log_cosh()
        if name in _LOSSES_OF_NUMBER:
            return getattr(losses, name)(*([float(number)] if colon else []))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None
    known = [*_LOSSES, "log_cosh", *(f"{name}:NUMBER" for name in _LOSSES_OF_NUMBER)]
    raise argparse.ArgumentTypeError(f"must be one of {', '.join(known)}, got {text!r}")
