"""The command line: `linreg-jax`, or `python -m linreg_jax`."""

import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace

from linreg_jax._cli.arguments import make_parser, read_loss
from linreg_jax._cli.compiled import keep_programs
from linreg_jax._cli.terminal import INTERRUPTED, flush, prepared_streams


def main(argv: list[str] | None = None) -> int:
    """Runs the command line.

    Args:
      argv: the arguments; None: those of the process.

    Returns:
      The exit code: 0 where all is well, 1 where a run diverged or ended with a larger loss than
      it began with, or a gradient is wrong, 2 where the arguments or a file are, 130 where Ctrl-C
      ended it.

    Raises:
      SystemExit: after --help, and where the arguments cannot be read.

    Example:
      >>> main(["fit", "no-such.csv", "--target", "price"])  # what is wrong: on standard error
      2
    """
    with prepared_streams():
        return _run(make_parser(), argv)


def _run(parser: ArgumentParser, argv: list[str] | None) -> int:
    """`main` where the streams can be written to."""
    # JAX takes most of a second to import, so only what computes waits for it: a word such as
    # --help does not, and neither does a wrong option (but for --loss).
    arguments = parser.parse_args(argv)
    flags = (arguments.hubble_float64, arguments.hubble_tour)
    of_hubble = (arguments.hubble_seed, arguments.hubble_plot, *(flag or None for flag in flags))
    if arguments.command == "demonstration":
        arguments.float64 = arguments.hubble_float64
    elif any(value is not None for value in of_hubble):
        parser.error("--seed, --float64, --plot and --tour stand behind the command they belong to")
    if not arguments.no_cache:
        keep_programs()
    if "loss" in arguments:
        try:
            arguments.loss = read_loss(arguments.loss)
        except ArgumentTypeError as error:
            parser.error(f"argument --loss: {error}")
    return _compute(arguments)


def _compute(arguments: Namespace) -> int:
    """The command, and an exit code for what goes wrong in it."""
    import jax

    from linreg_jax._cli import commands
    from linreg_jax._training.result import DivergedError

    try:
        with jax.enable_x64(arguments.float64):
            code = getattr(commands, arguments.command)(arguments)
        flush()
        return code
    except BrokenPipeError:  # whoever read our output has read enough
        return 0
    except DivergedError as error:
        print(f"linreg-jax: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        text = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        return _refuse(text)
    except (ValueError, TypeError) as error:
        return _refuse(str(error))
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        return _refuse(f"not enough memory, choose fewer --features: {error}")
    except KeyboardInterrupt as error:
        print(f"linreg-jax: interrupted; {str(error) or 'nothing was written'}", file=sys.stderr)
        return INTERRUPTED


def _refuse(text: str) -> int:
    """Bad arguments or files: one line on standard error, and the exit code."""
    print(f"linreg-jax: {' '.join(text.split())}", file=sys.stderr)
    return 2
