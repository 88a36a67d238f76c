"""`python -m linreg_jax`: the command line."""

import os
import sys

from linreg_jax import cli


def main() -> int:
    """The command line as a process; `cli.main` is the one to call from Python.

    Returns:
      The exit code.
    """
    code = cli.main()
    if code == cli.INTERRUPTED:  # a compiled run knows nothing of Ctrl-C, and would be waited for
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


if __name__ == "__main__":
    sys.exit(main())
