"""`python -m linreg_jax`: the command line."""

import os
import sys

from linreg_jax import cli
from linreg_jax._cli.terminal import INTERRUPTED


def main() -> int:
    """The command line as a process; `cli.main` is the one to call from Python.

    Returns:
      The exit code.
    """
    _fill_closed_streams()
    code = cli.main()
    if code == INTERRUPTED:  # a compiled run knows nothing of Ctrl-C, and would be waited for
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        os._exit(code)
    return code


def _fill_closed_streams() -> None:
    """Keeps files that are opened later from being taken for a stream that is closed (`>&-`)."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


if __name__ == "__main__":
    sys.exit(main())
